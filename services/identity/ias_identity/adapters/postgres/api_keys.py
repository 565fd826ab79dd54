"""API keys in Postgres."""

from datetime import datetime
from typing import Any

from ias_identity.adapters.postgres import changes
from ias_identity.domain.api_keys import ApiKey
from ias_runtime import audit
from ias_runtime.caller import Caller
from ias_runtime.postgres import Pool

_COLUMNS = (
    "id::text, lookup, organization_id::text, user_id::text, name, display, allowed_models,"
    " allowed_cidrs, created_at, expires_at, revoked_at, last_used_at, last_used_address"
)


class PostgresApiKeys:
    """Implements ApiKeyStore."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, caller: Caller, key: ApiKey, secret_hash: bytes) -> None:
        """See the port."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "insert into identity.api_keys (id, lookup, organization_id, user_id, name,"
                " display, secret_hash, allowed_models, allowed_cidrs, created_at, expires_at)"
                " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
                key.id,
                key.lookup,
                key.organization_id,
                key.user_id,
                key.name,
                key.display,
                secret_hash,
                list(key.allowed_models),
                list(key.allowed_cidrs),
                key.created_at,
                key.expires_at,
            )
            await audit.record(
                connection,
                caller,
                "api_key.create",
                "api_key",
                key.id,
                organization_id=key.organization_id,
                after=_snapshot(key),
            )

    async def find(self, key_id: str) -> ApiKey | None:
        """See the port."""
        row = await self._pool.fetchrow(
            f"select {_COLUMNS} from identity.api_keys where id = $1",  # noqa: S608
            key_id,
        )
        return None if row is None else _key(row)

    async def list(
        self,
        *,
        organization_id: str | None,
        user_id: str | None,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> list[ApiKey]:
        """See the port."""
        created_at, key_id = before or (None, None)
        rows = await self._pool.fetch(
            f"select {_COLUMNS} from identity.api_keys"  # noqa: S608
            " where ($1::uuid is null or organization_id = $1)"
            " and ($2::uuid is null or user_id = $2)"
            " and ($3::timestamptz is null or created_at < $3 or (created_at = $3 and id > $4))"
            " order by created_at desc, id limit $5",
            organization_id,
            user_id,
            created_at,
            key_id,
            limit,
        )
        return [_key(row) for row in rows]

    async def revoke(self, caller: Caller, key_id: str) -> ApiKey | None:
        """See the port."""
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                "update identity.api_keys set revoked_at = now()"  # noqa: S608
                f" where id = $1 and revoked_at is null returning {_COLUMNS}",
                key_id,
            )
            if row is not None:
                key = _key(row)
                await changes.note(connection, "api_key", key_id)
                await audit.record(
                    connection,
                    caller,
                    "api_key.revoke",
                    "api_key",
                    key_id,
                    organization_id=key.organization_id,
                    before=_snapshot(key) | {"revoked": False},
                    after=_snapshot(key) | {"revoked": True},
                )
                return key
        return await self.find(key_id)


def _snapshot(key: ApiKey) -> dict[str, Any]:
    return {
        "user_id": key.user_id,
        "name": key.name,
        "display": key.display,
        "allowed_models": list(key.allowed_models),
        "allowed_cidrs": list(key.allowed_cidrs),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
    }


def _key(row: Any) -> ApiKey:
    return ApiKey(
        id=row["id"],
        lookup=row["lookup"],
        organization_id=row["organization_id"],
        user_id=row["user_id"],
        name=row["name"],
        display=row["display"],
        allowed_models=tuple(row["allowed_models"]),
        allowed_cidrs=tuple(row["allowed_cidrs"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
        last_used_address=row["last_used_address"],
    )
