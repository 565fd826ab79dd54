"""Organisations in Postgres."""

from typing import Any

import asyncpg

from ias_identity.domain.organizations import Organization, OrganizationStatus
from ias_runtime import audit
from ias_runtime.caller import Caller
from ias_runtime.errors import AlreadyExists
from ias_runtime.postgres import Pool

_COLUMNS = "id::text, name, display_name, status, created_at"


class PostgresOrganizations:
    """Implements OrganizationStore."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, caller: Caller, organization: Organization) -> None:
        """See the port."""
        async with self._pool.acquire() as connection, connection.transaction():
            try:
                await connection.execute(
                    "insert into identity.organizations (id, name, display_name, status,"
                    " created_at) values ($1, $2, $3, $4, $5)",
                    organization.id,
                    organization.name,
                    organization.display_name,
                    organization.status.value,
                    organization.created_at,
                )
            except asyncpg.UniqueViolationError:
                raise AlreadyExists("organization", organization.name) from None
            await audit.record(
                connection,
                caller,
                "organization.create",
                "organization",
                organization.id,
                organization_id=organization.id,
                after={
                    "name": organization.name,
                    "display_name": organization.display_name,
                    "status": organization.status.value,
                },
            )

    async def find(self, organization_id: str) -> Organization | None:
        """See the port."""
        return _organization(
            await self._pool.fetchrow(
                f"select {_COLUMNS} from identity.organizations where id = $1",  # noqa: S608
                organization_id,
            )
        )

    async def find_by_name(self, name: str) -> Organization | None:
        """See the port."""
        return _organization(
            await self._pool.fetchrow(
                f"select {_COLUMNS} from identity.organizations where name = $1",  # noqa: S608
                name,
            )
        )

    async def list(self, *, only: str | None, after: str, limit: int) -> list[Organization]:
        """See the port."""
        rows = await self._pool.fetch(
            f"select {_COLUMNS} from identity.organizations"  # noqa: S608
            " where ($1::uuid is null or id = $1) and name > $2 order by name limit $3",
            only,
            after,
            limit,
        )
        return [found for row in rows if (found := _organization(row)) is not None]


def _organization(row: Any) -> Organization | None:
    if row is None:
        return None
    return Organization(
        id=row["id"],
        name=row["name"],
        display_name=row["display_name"],
        status=OrganizationStatus(row["status"]),
        created_at=row["created_at"],
    )
