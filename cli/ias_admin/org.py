"""`ias-admin org`: the tenants."""

from typing import Annotated

import typer
from ias_sdk.ias.identity import v1 as identity

from ias_admin import names
from ias_admin.client import pages
from ias_admin.command import Ias, command, group
from ias_admin.output import Column, View, record, time

app = group(
    "org",
    "Create and show organisations.",
    ["ias-admin org create acme --display-name 'Acme Inc.'", "ias-admin org list -o json"],
)

VIEW = View(
    identifier="id",
    columns=(
        Column("Name", "name"),
        Column("Display name", "display_name"),
        Column("Status", "status"),
        Column("Created", "create_time", time),
        Column("Id", "id"),
    ),
    fields=("id", "name", "display_name", "status", "create_time"),
)


@command(
    app,
    "create",
    examples=[
        "ias-admin org create acme --display-name 'Acme Inc.'",
        "ORG=$(ias-admin org create acme --quiet)",
    ],
)
def create(
    ias: Ias,
    name: Annotated[str, typer.Argument(help="Unique: a-z, 0-9 and -, 63 characters at most.")],
    display_name: Annotated[str, typer.Option(help="What people call it.")] = "",
) -> None:
    """Create an organisation. For System Admins."""
    answer = ias.stubs.organizations.create_organization(
        identity.CreateOrganizationRequest(name=name, display_name=display_name)
    )
    assert answer.organization is not None
    ias.printer.one(VIEW, record(answer.organization))


@command(app, "list", examples=["ias-admin org list", "ias-admin org list -o csv > orgs.csv"])
def list_(ias: Ias) -> None:
    """List the organisations that you may see, by name."""
    found = pages(
        ias.stubs.organizations.list_organizations,
        identity.ListOrganizationsRequest(),
        "organizations",
    )
    ias.printer.many(VIEW, map(record, found))


@command(app, "get", examples=["ias-admin org get acme"])
def get(
    ias: Ias, organization: Annotated[str, typer.Argument(metavar="ORG", help="Its name or id.")]
) -> None:
    """Show one organisation."""
    ias.printer.one(VIEW, record(names.organization(ias.stubs, organization)))
