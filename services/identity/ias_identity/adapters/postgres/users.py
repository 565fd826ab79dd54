"""Users and invitations in Postgres."""

from typing import Any

import asyncpg

from ias_identity.domain.users import Invitation, User, UserStatus, email_key
from ias_runtime import audit
from ias_runtime.caller import Caller, Role
from ias_runtime.errors import AlreadyExists
from ias_runtime.postgres import Connection, Pool

COLUMNS = (
    "u.id::text, coalesce(u.organization_id::text, '') as organization_id, u.email, u.role,"
    " u.status, u.created_at"
)


class PostgresUsers:
    """Implements UserStore."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add_invited(self, caller: Caller, user: User, invitation: Invitation) -> None:
        """See the port."""
        async with self._pool.acquire() as connection, connection.transaction():
            await _insert(connection, user, None)
            await connection.execute(
                "insert into identity.invitations (token_hash, user_id, created_at, expires_at)"
                " values ($1, $2, $3, $4)",
                invitation.token_hash,
                invitation.user_id,
                invitation.created_at,
                invitation.expires_at,
            )
            await _record(connection, caller, "user.invite", user)

    async def add_active(self, caller: Caller, user: User, password_hash: str) -> None:
        """See the port."""
        async with self._pool.acquire() as connection, connection.transaction():
            await _insert(connection, user, password_hash)
            await _record(connection, caller, "user.create", user)

    async def find(self, user_id: str) -> User | None:
        """See the port."""
        row = await self._pool.fetchrow(
            f"select {COLUMNS} from identity.users u where u.id = $1",  # noqa: S608
            user_id,
        )
        return None if row is None else user_of(row)

    async def find_by_email(self, email_key: str) -> User | None:
        """See the port."""
        if "\x00" in email_key:  # Postgres can't even compare it
            return None
        row = await self._pool.fetchrow(
            f"select {COLUMNS} from identity.users u where u.email_key = $1",  # noqa: S608
            email_key,
        )
        return None if row is None else user_of(row)

    async def list(self, *, organization_id: str | None, after: str, limit: int) -> list[User]:
        """See the port."""
        rows = await self._pool.fetch(
            f"select {COLUMNS} from identity.users u"  # noqa: S608
            " where ($1::uuid is null or u.organization_id = $1) and u.email_key > $2"
            " order by u.email_key limit $3",
            organization_id,
            after,
            limit,
        )
        return [user_of(row) for row in rows]


def user_of(row: Any) -> User:
    """A user from a row that has COLUMNS."""
    return User(
        id=row["id"],
        organization_id=row["organization_id"],
        email=row["email"],
        role=Role(row["role"]),
        status=UserStatus(row["status"]),
        created_at=row["created_at"],
    )


def snapshot(user: User) -> dict[str, str]:
    """A user as the audit log has them."""
    return {"email": user.email, "role": user.role.value, "status": user.status.value}


async def _insert(connection: Connection, user: User, password_hash: str | None) -> None:
    try:
        await connection.execute(
            "insert into identity.users (id, organization_id, email, email_key, role, status,"
            " password_hash, created_at) values ($1, $2, $3, $4, $5, $6, $7, $8)",
            user.id,
            user.organization_id or None,
            user.email,
            email_key(user.email),
            user.role.value,
            user.status.value,
            password_hash,
            user.created_at,
        )
    except asyncpg.UniqueViolationError:
        raise AlreadyExists("user", user.email) from None


async def _record(connection: Connection, caller: Caller, action: str, user: User) -> None:
    await audit.record(
        connection,
        caller,
        action,
        "user",
        user.id,
        organization_id=user.organization_id,
        after=snapshot(user),
    )
