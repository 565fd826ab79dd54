"""The audit log in Postgres: the chassis's table, read."""

from datetime import datetime
from typing import Any

from ias_identity.domain.audit import AuditEntry
from ias_runtime.postgres import Pool

_SYSTEM_LOG = "00000000-0000-0000-0000-000000000000"


class PostgresAuditLog:
    """Implements AuditLog."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(
        self,
        *,
        organization_id: str | None,
        action: str | None,
        resource_id: str | None,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> list[AuditEntry]:
        """See the port."""
        occurred_at, entry_id = before or (None, None)
        rows = await self._pool.fetch(
            "select id::text, organization_id::text, sequence, occurred_at, action, resource_type,"
            " resource_id, coalesce(actor_user_id::text, '') as actor_user_id,"
            " coalesce(actor_api_key_id::text, '') as actor_api_key_id, actor_address, request_id,"
            " before, after, hash from audit.entries"
            " where ($1::uuid is null or organization_id = $1)"
            " and ($2::text is null or action = $2) and ($3::text is null or resource_id = $3)"
            " and ($4::timestamptz is null or occurred_at < $4 or (occurred_at = $4 and id > $5))"
            " order by occurred_at desc, id limit $6",
            organization_id,
            action,
            resource_id,
            occurred_at,
            entry_id,
            limit,
        )
        return [_entry(row) for row in rows]


def _entry(row: Any) -> AuditEntry:
    fields = dict(row)
    if fields["organization_id"] == _SYSTEM_LOG:
        fields["organization_id"] = ""
    return AuditEntry(**fields)
