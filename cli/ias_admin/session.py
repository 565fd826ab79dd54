"""`ias-admin login`, `logout`, `whoami`."""

import os
import sys
from typing import Annotated

import grpc
import typer
from ias_sdk.ias.identity import v1 as identity

from ias_admin import names
from ias_admin.client import Fixed, Stubs
from ias_admin.command import Ias, say, secret_from
from ias_admin.credentials import SessionCredential, session_of
from ias_admin.errors import CliError, wrong_usage
from ias_admin.output import Column, Record, View, record

LOGIN_EXAMPLES = [
    "ias-admin login --email ann@acme.org",
    "ias-admin login --email ann@acme.org --password-stdin < password.txt",
    "IAS_ADMIN_EMAIL=… IAS_ADMIN_PASSWORD=… ias-admin login",
]
LOGOUT_EXAMPLES = ["ias-admin logout"]
WHOAMI_EXAMPLES = ["ias-admin whoami", "ias-admin whoami -o json | jq -r .organization_id"]

VIEW = View(
    identifier="id",
    columns=(
        Column("E-mail", "email"),
        Column("Role", "role"),
        Column("Organisation", "organization_name"),
        Column("Status", "status"),
        Column("Id", "id"),
    ),
    details=(Column("Organisation id", "organization_id"), Column("API key id", "api_key_id")),
    fields=(
        "id",
        "email",
        "role",
        "status",
        "organization_id",
        "organization_name",
        "api_key_id",
    ),
)


def login(
    ias: Ias,
    email: Annotated[
        str | None, typer.Option(help="Yours; asked for if not given. [IAS_ADMIN_EMAIL]")
    ] = None,
    password_stdin: Annotated[
        bool,
        typer.Option("--password-stdin", help="Read the password from standard input."),
    ] = False,
) -> None:
    """Sign in. The session is kept in the configuration, for you alone, and renews itself."""
    email = email or os.environ.get("IAS_ADMIN_EMAIL") or _asked_email(password_stdin)
    # The environment's password belongs to the environment's address.
    known = os.environ.get("IAS_ADMIN_PASSWORD", "")
    belongs = email.casefold() == os.environ.get("IAS_ADMIN_EMAIL", "").casefold()
    if known and belongs and not password_stdin:
        password = known
    else:
        password = secret_from(password_stdin, f"Password of {email}")
    answer = ias.public.sessions.login(identity.LoginRequest(email=email, password=password))
    assert answer.user is not None
    with ias.file.edit() as config:
        config.sessions[str(ias.address)] = session_of(answer.tokens, answer.user.email)
    assert answer.tokens is not None
    own = ias.acting_with(Fixed(answer.tokens.access_token))
    tenant = _organization_name(own, answer.user)
    ias.printer.one(VIEW, _row(answer.user, "", tenant))
    say(f"Signed in to {ias.address}.")
    if os.environ.get("IAS_TOKEN"):
        say("IAS_TOKEN is set and goes before this session; unset it to use the session.")


def _asked_email(password_stdin: bool) -> str:
    if password_stdin or not sys.stdin.isatty():
        raise wrong_usage("Who signs in?", "Give --email or set IAS_ADMIN_EMAIL.")
    return str(typer.prompt("E-mail", err=True))


def logout(ias: Ias) -> None:
    """Sign out: end the session and forget it."""
    address = str(ias.address)
    if address not in ias.config.sessions:
        say(f"You were not signed in to {address}.")
        return
    own = SessionCredential({}, ias.file, address, ias.public)
    try:
        ias.acting_with(own).sessions.logout()
    except CliError:
        pass  # it had ended already
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            say("The session is forgotten here, but was not ended; it ends within 7 days.")
            raise
    finally:
        with ias.file.edit() as config:
            config.sessions.pop(address, None)
    say(f"Signed out of {address}.")


def whoami(ias: Ias) -> None:
    """Show who you are to IAS, and as what."""
    answer = ias.stubs.sessions.whoami()
    assert answer.user is not None
    tenant = _organization_name(ias.stubs, answer.user)
    ias.printer.one(VIEW, _row(answer.user, answer.api_key_id, tenant))


def _row(user: identity.User, api_key_id: str, organization_name: str | None) -> Record:
    row = record(user) | {"organization_name": organization_name, "api_key_id": api_key_id}
    del row["create_time"]
    return row


def _organization_name(stubs: Stubs, user: identity.User) -> str | None:
    if not user.organization_id:
        return None
    found = names.Directory(stubs).organizations([user.organization_id])
    return found.get(user.organization_id)
