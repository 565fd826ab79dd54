"""`ias-admin key`: API keys, which programs show to call the inference API."""

from collections.abc import Sequence
from typing import Annotated

import typer
from ias_sdk.ias.identity import v1 as identity

from ias_admin import names, values
from ias_admin.client import pages
from ias_admin.command import Ias, command, group, say
from ias_admin.output import Column, Record, View, joined, record, time

app = group(
    "key",
    "Create, show and revoke API keys.",
    ["ias-admin key create ci --expires 30d", "ias-admin key revoke ci"],
)

VIEW = View(
    identifier="id",
    columns=(
        Column("Name", "name"),
        Column("Key", "display"),
        Column("Status", "status"),
        Column("Owner", "user_email"),
        Column("Expires", "expire_time", time),
        Column("Last used", "last_use_time", time),
        Column("Id", "id"),
    ),
    details=(
        Column("Organisation id", "organization_id"),
        Column("Models", "allowed_models", joined),
        Column("Addresses", "allowed_cidrs", joined),
        Column("Created", "create_time", time),
        Column("Revoked", "revoke_time", time),
        Column("Last used from", "last_use_address"),
    ),
    fields=(
        "id",
        "name",
        "display",
        "status",
        "organization_id",
        "user_id",
        "user_email",
        "allowed_models",
        "allowed_cidrs",
        "create_time",
        "expire_time",
        "revoke_time",
        "last_use_time",
        "last_use_address",
    ),
)

CREATED = View(
    identifier="id",
    columns=VIEW.columns,
    details=(*VIEW.details, Column("Secret", "secret")),
    fields=(*VIEW.fields, "secret"),
)

KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="Its name, id, the beginning of its id, or `ias_AbCd…wxyz`."
    ),
]


@command(
    app,
    "create",
    examples=[
        "ias-admin key create laptop",
        "ias-admin key create ci --models llama-3.1-8b,mock-gpt --cidrs 10.0.0.0/8 --expires 30d",
        "export IAS_API_KEY=$(ias-admin key create ci -o json | jq -r .secret)",
    ],
)
def create(
    ias: Ias,
    name: Annotated[str, typer.Argument(help="What you call it.")],
    models: Annotated[
        str | None, typer.Option(metavar="A,B", help="The only models it may use.")
    ] = None,
    cidrs: Annotated[
        str | None, typer.Option(metavar="A,B", help="The only addresses it may be used from.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="In 30d, 24h, … or on 2026-12-31 (00:00 UTC)."),
    ] = None,
) -> None:
    """Create an API key for yourself. Its secret is shown this once."""
    answer = ias.stubs.api_keys.create_api_key(
        identity.CreateApiKeyRequest(
            name=name,
            allowed_models=values.names(models),
            allowed_cidrs=values.names(cidrs),
            expire_time=values.end(expires) if expires else None,
        )
    )
    assert answer.api_key is not None
    [row] = _rows(ias, [answer.api_key])
    ias.printer.one(CREATED, row | {"secret": answer.secret})
    if ias.printer.quiet:
        say(f"Secret, shown this once: {answer.secret}")
    elif ias.printer.is_table:
        say("Store the secret now: it is shown this once, and can't be recovered.")


@command(
    app,
    "list",
    examples=["ias-admin key list", "ias-admin key list --org acme --user ann@acme.org -o json"],
)
def list_(
    ias: Ias,
    org: Annotated[
        str | None, typer.Option(metavar="ORG", help="Of this organisation: its name or id.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="Of this person: their e-mail or id.")
    ] = None,
) -> None:
    """List the API keys that you may see, newest first."""
    request = identity.ListApiKeysRequest(
        organization_id=names.organization_id(ias.stubs, org),
        user_id=names.user(ias.stubs, user).id if user else "",
    )
    found = list(pages(ias.stubs.api_keys.list_api_keys, request, "api_keys"))
    ias.printer.many(VIEW, _rows(ias, found))


@command(app, "get", examples=["ias-admin key get ci"])
def get(ias: Ias, key: KeyArgument) -> None:
    """Show one API key, without its secret."""
    [row] = _rows(ias, [names.api_key(ias.stubs, key)])
    ias.printer.one(VIEW, row)


@command(app, "revoke", examples=["ias-admin key revoke ci", "ias-admin key revoke 01998b2c --yes"])
def revoke(ias: Ias, key: KeyArgument) -> None:
    """Revoke an API key for good; it is refused everywhere within 2 seconds."""
    found = names.api_key(ias.stubs, key)
    ias.confirm(f"Revoke the API key {found.name} ({found.display}) for good?")
    answer = ias.stubs.api_keys.revoke_api_key(identity.RevokeApiKeyRequest(api_key_id=found.id))
    assert answer.api_key is not None
    [row] = _rows(ias, [answer.api_key])
    ias.printer.one(VIEW, row)


def _rows(ias: Ias, keys: Sequence[identity.ApiKey]) -> list[Record]:
    """With their status and the addresses of their owners."""
    # Ids alone need no names, and so no further calls.
    emails = {} if ias.printer.quiet else names.Directory(ias.stubs).users(k.user_id for k in keys)
    return [
        record(key) | {"status": names.key_status(key), "user_email": emails.get(key.user_id)}
        for key in keys
    ]
