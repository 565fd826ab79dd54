"""What Check must know of a key or a session, in one query; and when keys were last used."""

import ipaddress
import time
from datetime import UTC, datetime
from typing import Any

from ias_identity.domain.access import Credential
from ias_runtime.caller import CallerKind, Role
from ias_runtime.postgres import Pool

_KEY = """
select k.id::text, k.lookup, k.secret_hash, k.organization_id::text, k.user_id::text, u.role,
       extract(epoch from k.expires_at)::float8 as expires_at, k.revoked_at is not null as ended,
       u.status = 'active' as user_active, o.status = 'active' as organization_active,
       k.allowed_models, k.allowed_cidrs
from identity.api_keys k
join identity.users u on u.id = k.user_id
join identity.organizations o on o.id = k.organization_id
where k.lookup = $1
"""
_SESSION = """
select s.id::text, s.id::text as lookup, ''::bytea as secret_hash,
       coalesce(u.organization_id::text, '') as organization_id, u.id::text as user_id, u.role,
       null::float8 as expires_at, s.ended_at is not null as ended,
       u.status = 'active' as user_active,
       coalesce(o.status, 'active') = 'active' as organization_active,
       '{}'::text[] as allowed_models, '{}'::text[] as allowed_cidrs
from identity.sessions s
join identity.users u on u.id = s.user_id
left join identity.organizations o on o.id = u.organization_id
where s.id = $1::uuid
"""


class PostgresCredentials:
    """The truth behind the caches."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def load(self, kind: CallerKind, lookup: str) -> Credential | None:
        """None if there is none. Raises what the driver raises when it can't be asked."""
        loaded_at = time.time()
        row = await self._pool.fetchrow(_KEY if kind is CallerKind.API_KEY else _SESSION, lookup)
        return None if row is None else _credential(kind, row, loaded_at)


class PostgresKeyUses:
    """Writes when and from where keys were last used."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def write(self, uses: dict[str, tuple[float, str]]) -> None:
        """Writes (Unix seconds, address) by key id; older news than what is there is dropped."""
        await self._pool.execute(
            "update identity.api_keys k set last_used_at = n.at, last_used_address = n.address"
            " from unnest($1::uuid[], $2::timestamptz[], $3::text[]) as n(id, at, address)"
            " where k.id = n.id and (k.last_used_at is null or k.last_used_at < n.at)",
            list(uses),
            [datetime.fromtimestamp(at, UTC) for at, _ in uses.values()],
            [address for _, address in uses.values()],
        )


def _credential(kind: CallerKind, row: Any, loaded_at: float) -> Credential:
    return Credential(
        kind=kind,
        id=row["id"],
        lookup=row["lookup"],
        organization_id=row["organization_id"],
        user_id=row["user_id"],
        role=Role(row["role"]),
        secret_hash=row["secret_hash"],
        expires_at=row["expires_at"],
        ended=row["ended"],
        user_active=row["user_active"],
        organization_active=row["organization_active"],
        allowed_models=tuple(row["allowed_models"]),
        networks=tuple(ipaddress.ip_network(cidr) for cidr in row["allowed_cidrs"]),
        loaded_at=loaded_at,
    )
