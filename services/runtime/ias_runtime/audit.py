"""The audit trail: every service writes its entry in the transaction of the change itself.

The table and its hash chain live in the schema `audit`, which belongs to the chassis: appending is
one SQL function, so no service reads or writes another's tables. identity serves the reading.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ias_runtime import migrations
from ias_runtime.caller import Caller
from ias_runtime.postgres import Connection

Snapshot = Mapping[str, Any]
"""A thing as JSON, without secrets."""


async def record(
    connection: Connection,
    caller: Caller,
    action: str,
    resource_type: str,
    resource_id: str,
    *,
    organization_id: str | None,
    before: Snapshot | None = None,
    after: Snapshot | None = None,
) -> None:
    """Appends an entry to the log of an organisation (None: the system's own).

    Must be called inside the transaction of the change, and last in it: it holds the lock of the
    log's chain until the commit.
    """
    await connection.execute(
        "select audit.append($1::uuid, $2, $3, $4, $5::uuid, $6::uuid, $7, $8, $9, $10)",
        organization_id or None,
        action,
        resource_type,
        resource_id,
        caller.user_id or None,
        caller.api_key_id or None,
        caller.address,
        caller.request_id,
        before,
        after,
    )


def migrate(database_url: str) -> None:
    """Brings the schema `audit` up to date. Every service does so before its own."""
    migrations.migrate(database_url, "audit", Path(__file__).parent / "audit_migrations")
