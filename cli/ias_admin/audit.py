"""`ias-admin audit`: who changed what."""

from itertools import islice
from typing import Annotated

import typer
from ias_sdk.ias.identity import v1 as identity

from ias_admin import names
from ias_admin.client import pages
from ias_admin.command import Ias, command, group
from ias_admin.output import Column, Record, View, record, time

app = group(
    "audit",
    "Read the audit log, which has one entry for every change.",
    ["ias-admin audit list --action api_key.revoke", "ias-admin audit list -o json"],
)

VIEW = View(
    identifier="id",
    columns=(
        Column("When", "occur_time", time),
        Column("Who", "actor"),
        Column("Did", "action"),
        Column("To", "resource_id"),
        Column("From", "actor_address"),
        Column("No", "sequence", right=True),
        Column("Id", "id"),
    ),
    fields=(
        "id",
        "organization_id",
        "sequence",
        "occur_time",
        "action",
        "resource_type",
        "resource_id",
        "actor_user_id",
        "actor_email",
        "actor_api_key_id",
        "actor_address",
        "request_id",
        "before",
        "after",
        "hash",
    ),
)


@command(
    app,
    "list",
    examples=[
        "ias-admin audit list --org acme --limit 20",
        "ias-admin audit list --action api_key.revoke",
        "ias-admin audit list --resource mock-gpt -o json | jq '.[].after'",
    ],
)
def list_(
    ias: Ias,
    org: Annotated[
        str | None,
        typer.Option(metavar="ORG", help="Its name or id; your own, or all for a System Admin."),
    ] = None,
    action: Annotated[str, typer.Option(help="Only this, as api_key.revoke.")] = "",
    resource: Annotated[
        str, typer.Option(metavar="ID", help="Only changes of this: its id, or a model's name.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many entries at most.")] = 100,
) -> None:
    """List changes, newest first."""
    request = identity.ListAuditEntriesRequest(
        organization_id=names.organization_id(ias.stubs, org),
        page_size=min(limit, 1000),
        action=action,
        resource_id=resource,
    )
    found = islice(pages(ias.stubs.audit.list_audit_entries, request, "entries"), limit)
    ias.printer.many(VIEW, _rows(ias, list(found)))


def _rows(ias: Ias, entries: list[identity.AuditEntry]) -> list[Record]:
    """With the e-mail addresses of who did it."""
    actors = {entry.actor_user_id for entry in entries}
    emails = {} if ias.printer.quiet else names.Directory(ias.stubs).users(actors)
    rows = []
    for entry in entries:
        row = record(entry) | {"actor_email": emails.get(entry.actor_user_id)}
        if ias.printer.is_table:
            row["actor"] = row["actor_email"] or entry.actor_user_id or "the system"
        rows.append(row)
    return rows
