"""`ias-admin user`: the people."""

from enum import StrEnum
from typing import Annotated

import grpc
import typer
from ias_sdk.ias.access import v1 as access
from ias_sdk.ias.identity import v1 as identity

from ias_admin import names
from ias_admin.client import Fixed, pages
from ias_admin.command import Ias, command, group, say, secret_from
from ias_admin.credentials import session_of
from ias_admin.errors import CliError, wrong_usage
from ias_admin.output import Column, Record, View, record, time

app = group(
    "user",
    "Invite people and show them.",
    ["ias-admin user invite ann@acme.org --role org_admin --org acme", "ias-admin user list"],
)

VIEW = View(
    identifier="id",
    columns=(
        Column("E-mail", "email"),
        Column("Role", "role"),
        Column("Status", "status"),
        Column("Organisation", "organization_name"),
        Column("Created", "create_time", time),
        Column("Id", "id"),
    ),
    fields=(
        "id",
        "email",
        "role",
        "status",
        "organization_id",
        "organization_name",
        "create_time",
    ),
)

INVITATION = View(
    identifier="id",
    columns=VIEW.columns,
    details=(
        Column("Invitation token", "invitation_token"),
        Column("Valid until", "invitation_expire_time", time),
    ),
    fields=(*VIEW.fields, "invitation_token", "invitation_expire_time"),
)


class InvitedRole(StrEnum):
    """As what a person is invited."""

    ORG_ADMIN = "org_admin"
    ORG_USER = "org_user"


OrgOption = Annotated[
    str | None, typer.Option("--org", metavar="ORG", help="Its name or id; your own if not given.")
]


@command(
    app,
    "invite",
    examples=[
        "ias-admin user invite ann@acme.org --role org_admin --org acme",
        "ias-admin user invite ben@acme.org -o json | jq -r .invitation_token",
    ],
)
def invite(
    ias: Ias,
    email: Annotated[str, typer.Argument(help="Whom.")],
    role: Annotated[InvitedRole, typer.Option(help="As what.")] = InvitedRole.ORG_USER,
    org: OrgOption = None,
) -> None:
    """Invite a person. The invitation's token is shown this once and valid for 7 days."""
    answer = ias.stubs.users.invite_user(
        identity.InviteUserRequest(
            organization_id=names.organization_id(ias.stubs, org),
            email=email,
            role=access.Role[role.name],
        )
    )
    assert answer.user is not None
    [invited] = with_organizations(ias, [record(answer.user)])
    expires = record(answer)["expire_time"]
    ias.printer.one(
        INVITATION,
        invited | {"invitation_token": answer.invitation_token, "invitation_expire_time": expires},
    )
    if ias.printer.quiet:
        say(f"Invitation token, shown this once: {answer.invitation_token}")
    elif ias.printer.is_table:
        say("The token is shown this once. They use it with: ias-admin user accept-invite")


@command(app, "list", examples=["ias-admin user list --org acme", "ias-admin user list -o json"])
def list_(ias: Ias, org: OrgOption = None) -> None:
    """List people, by e-mail address. A System Admin sees everyone unless --org is given."""
    request = identity.ListUsersRequest(organization_id=names.organization_id(ias.stubs, org))
    found = pages(ias.stubs.users.list_users, request, "users")
    ias.printer.many(VIEW, with_organizations(ias, [record(user) for user in found]))


@command(app, "get", examples=["ias-admin user get ann@acme.org"])
def get(
    ias: Ias,
    user: Annotated[str, typer.Argument(metavar="USER", help="The e-mail address or id.")],
) -> None:
    """Show one person."""
    [found] = with_organizations(ias, [record(names.user(ias.stubs, user))])
    ias.printer.one(VIEW, found)


@command(
    app,
    "accept-invite",
    examples=[
        "ias-admin user accept-invite",
        'printf \'%s\\n%s\\n\' "$TOKEN" "$PASSWORD" | ias-admin user accept-invite '
        "--password-stdin",
    ],
)
def accept_invite(
    ias: Ias,
    token: Annotated[
        str | None, typer.Argument(help="The invitation's token; asked for if not given.")
    ] = None,
    password_stdin: Annotated[
        bool,
        typer.Option(
            "--password-stdin",
            help="Read the password from standard input; before it, on a line of its own, the "
            "token if that is not given.",
        ),
    ] = False,
) -> None:
    """Accept an invitation: set a password, and be signed in unless someone already is here."""
    token = token or secret_from(password_stdin, "Invitation token")
    password = secret_from(password_stdin, "New password", twice=True)
    if not token or not password:
        raise wrong_usage("The token and the password must not be empty.")
    answer = ias.public.sessions.accept_invite(
        identity.AcceptInviteRequest(invitation_token=token, password=password)
    )
    assert answer.user is not None
    assert answer.tokens is not None
    signed_in = _kept(ias, answer.tokens, answer.user.email)
    [user] = [record(answer.user) | {"organization_name": None}]
    if signed_in:
        [user] = with_organizations(ias, [user])
    ias.printer.one(VIEW, user)
    if signed_in:
        say(f"Welcome. You are signed in as {answer.user.email}.")
    else:
        say(f"Accepted. Sign in with: ias-admin login --email {answer.user.email}")


def _kept(ias: Ias, tokens: identity.SessionTokens, email: str) -> bool:
    """Keeps the new session, unless there is one, which an administrator may need."""
    address = str(ias.address)
    try:
        with ias.file.edit() as config:
            kept = address not in config.sessions
            if kept:
                config.sessions[address] = session_of(tokens, email)
    except CliError:  # the invitation is used up all the same
        kept = False
    if not kept:
        try:
            ias.acting_with(Fixed(tokens.access_token)).sessions.logout()
        except grpc.RpcError:
            say("The session that the invitation opened could not be ended; it ends by itself.")
    return kept


def with_organizations(ias: Ias, users: list[Record]) -> list[Record]:
    """Adds the names of their organisations."""
    found = names.Directory(ias.stubs).organizations(user["organization_id"] for user in users)
    for user in users:
        user["organization_name"] = found.get(user["organization_id"])
    return users
