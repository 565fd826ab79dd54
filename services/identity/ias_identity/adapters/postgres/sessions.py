"""Sessions and refresh tokens in Postgres."""

from dataclasses import replace

from ias_identity.adapters.postgres import changes
from ias_identity.adapters.postgres.users import COLUMNS, snapshot, user_of
from ias_identity.domain.sessions import LoginFacts, NewRefreshToken, NewSession, Rotation
from ias_identity.domain.users import User, UserStatus
from ias_runtime import audit
from ias_runtime.caller import Caller
from ias_runtime.postgres import Connection, Pool

_SERVED = "u.status = 'active' and coalesce(o.status, 'active') = 'active'"


class PostgresSessions:
    """Implements SessionStore."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def login_facts(self, email_key: str) -> LoginFacts | None:
        """See the port."""
        if "\x00" in email_key:  # Postgres can't even compare it
            return None
        row = await self._pool.fetchrow(
            f"select {COLUMNS}, u.password_hash,"  # noqa: S608
            " coalesce(o.status, 'active') = 'active' as organization_active"
            " from identity.users u left join identity.organizations o on o.id = u.organization_id"
            " where u.email_key = $1",
            email_key,
        )
        if row is None:
            return None
        return LoginFacts(user_of(row), row["password_hash"], row["organization_active"])

    async def open(self, caller: Caller, session: NewSession) -> None:
        """See the port."""
        async with self._pool.acquire() as connection, connection.transaction():
            await _insert(connection, session)
            await _record(connection, caller, "session.login", session.id, caller.organization_id)

    async def rotate(self, caller: Caller, token_hash: bytes, new: NewRefreshToken) -> Rotation:
        """See the port."""
        async with self._pool.acquire() as connection, connection.transaction():
            # Locking the token makes two who show it at once come one after the other.
            row = await connection.fetchrow(
                "select t.session_id::text as session_id, t.used_at is not null as used,"  # noqa: S608
                " t.expires_at > now() as fresh, s.ended_at is null as open,"
                f" {_SERVED} as served, u.id::text as user_id,"
                " coalesce(u.organization_id::text, '') as organization_id"
                " from identity.refresh_tokens t join identity.sessions s on s.id = t.session_id"
                " join identity.users u on u.id = s.user_id"
                " left join identity.organizations o on o.id = u.organization_id"
                " where t.token_hash = $1 for update of t, s",
                token_hash,
            )
            if row is None or not row["open"]:
                return Rotation()
            session_id: str = row["session_id"]
            if row["used"]:
                await _end(connection, session_id)
                shown_by = replace(caller, user_id=row["user_id"], session_id=session_id)
                await _record(
                    connection, shown_by, "session.end", session_id, row["organization_id"]
                )
                return Rotation(ended_session_id=session_id)
            if not row["fresh"] or not row["served"]:
                return Rotation()
            await connection.execute(
                "update identity.refresh_tokens set used_at = now() where token_hash = $1",
                token_hash,
            )
            await _insert_refresh(connection, session_id, new)
            return Rotation(session_id=session_id)

    async def end(self, caller: Caller, session_id: str) -> bool:
        """See the port."""
        async with self._pool.acquire() as connection, connection.transaction():
            if not await _end(connection, session_id):
                return False
            await _record(connection, caller, "session.logout", session_id, caller.organization_id)
            return True

    async def invited(self, token_hash: bytes) -> User | None:
        """See the port."""
        row = await self._pool.fetchrow(
            f"select {COLUMNS} from identity.invitations i"  # noqa: S608
            " join identity.users u on u.id = i.user_id"
            " where i.token_hash = $1 and i.accepted_at is null and i.expires_at > now()"
            " and u.status = 'pending'",
            token_hash,
        )
        return None if row is None else user_of(row)

    async def accept(
        self, caller: Caller, token_hash: bytes, password_hash: str, session: NewSession
    ) -> User | None:
        """See the port."""
        async with self._pool.acquire() as connection, connection.transaction():
            used_up = await connection.fetchval(
                "update identity.invitations set accepted_at = now() where token_hash = $1"
                " and accepted_at is null and expires_at > now() returning user_id",
                token_hash,
            )
            if used_up is None:
                return None
            row = await connection.fetchrow(
                "update identity.users u set status = 'active', password_hash = $2"  # noqa: S608
                f" where u.id = $1 and u.status = 'pending' returning {COLUMNS}",
                used_up,
                password_hash,
            )
            if row is None:
                return None
            user = user_of(row)
            await _insert(connection, session)
            await changes.note(connection, "user", user.id)
            await audit.record(
                connection,
                caller,
                "user.activate",
                "user",
                user.id,
                organization_id=user.organization_id,
                before=snapshot(replace(user, status=UserStatus.PENDING)),
                after=snapshot(user),
            )
            return user


async def _insert(connection: Connection, session: NewSession) -> None:
    await connection.execute(
        "insert into identity.sessions (id, user_id, created_at) values ($1, $2, $3)",
        session.id,
        session.user_id,
        session.created_at,
    )
    await _insert_refresh(connection, session.id, session.refresh)


async def _insert_refresh(
    connection: Connection, session_id: str, refresh: NewRefreshToken
) -> None:
    await connection.execute(
        "insert into identity.refresh_tokens (token_hash, session_id, expires_at)"
        " values ($1, $2, $3)",
        refresh.token_hash,
        session_id,
        refresh.expires_at,
    )


async def _end(connection: Connection, session_id: str) -> bool:
    ended = await connection.fetchval(
        "update identity.sessions set ended_at = now() where id = $1 and ended_at is null"
        " returning id",
        session_id,
    )
    if ended is None:
        return False
    await changes.note(connection, "session", session_id)
    return True


async def _record(
    connection: Connection, caller: Caller, action: str, session_id: str, organization_id: str
) -> None:
    await audit.record(
        connection, caller, action, "session", session_id, organization_id=organization_id
    )
