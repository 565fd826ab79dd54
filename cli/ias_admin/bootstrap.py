"""`ias-admin bootstrap`: the very first System Admin, before anybody can sign in.

There is nobody yet whom IAS could trust with this, so it is no RPC: identity's own command writes
to the database, for whoever holds the database's URL.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from ias_admin.command import Ias, command, group, say, secret_from
from ias_admin.errors import CliError
from ias_admin.output import Column, View

COMMAND = "ias-identity"

app = group(
    "bootstrap",
    "Set up what has to be there before anybody can sign in.",
    ["ias-admin bootstrap create-super-admin --email ops@example.com"],
)

VIEW = View(
    identifier="email",
    columns=(Column("E-mail", "email"), Column("Done", "message")),
    fields=("email", "message"),
)


@command(
    app,
    "create-super-admin",
    examples=[
        "export IAS_DATABASE_URL=postgresql://…",
        "ias-admin bootstrap create-super-admin --email ops@example.com",
        "ias-admin bootstrap create-super-admin --email ops@example.com --password-stdin < file",
    ],
)
def create_super_admin(
    ias: Ias,
    email: Annotated[str, typer.Option(help="Theirs.")],
    password_stdin: Annotated[
        bool,
        typer.Option("--password-stdin", help="Read the password from standard input."),
    ] = False,
) -> None:
    """Create the first System Admin. Runs on a machine of IAS's, against its database."""
    program = _program()
    if not os.environ.get("IAS_DATABASE_URL"):
        raise CliError(
            "IAS_DATABASE_URL is not set, and bootstrap writes to IAS's database.",
            "Run it where IAS runs, with the environment of its services.",
        )
    password = secret_from(password_stdin, f"New password of {email}", twice=True)
    done = subprocess.run(  # noqa: S603 - our own program, and no shell
        [program, "bootstrap", "create-super-admin", "--email", email, "--password-stdin"],
        input=password + "\n",
        text=True,
        capture_output=True,
        check=False,
    )
    if done.stderr:
        say(done.stderr.rstrip())
    if done.returncode != 0:
        raise CliError(
            f"{COMMAND} ended with {done.returncode}, and no System Admin was created.",
            "Check its message above, IAS_DATABASE_URL, and that `ias-identity migrate` was run.",
        )
    ias.printer.one(VIEW, {"email": email, "message": done.stdout.strip()})


def _program() -> str:
    """On the PATH, or beside this Python. Raises CliError when it is in neither place."""
    beside = Path(sys.executable).parent / COMMAND
    found = shutil.which(COMMAND) or (str(beside) if beside.exists() else None)
    if found is None:
        raise CliError(
            f"{COMMAND} is not installed here, and bootstrap is its work.",
            "Run this where the identity service of IAS is installed.",
        )
    return found
