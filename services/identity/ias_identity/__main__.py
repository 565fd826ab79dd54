"""`ias-identity serve | migrate | bootstrap create-super-admin`."""

import argparse
import asyncio
import getpass
import sys

from ias_identity import wiring
from ias_identity.settings import IdentitySettings
from ias_runtime import logs, server
from ias_runtime.errors import IasError


def main() -> None:
    """Runs the command line."""
    arguments = _parser().parse_args()
    settings = IdentitySettings()  # type: ignore[call-arg]  # from the environment
    logs.configure("identity", settings.log_level)
    if arguments.command == "serve":
        asyncio.run(server.serve(settings, lambda: wiring.opening(settings)))
    elif arguments.command == "migrate":
        wiring.migrate(settings)
    else:
        _create_super_admin(settings, arguments.email, from_stdin=arguments.password_stdin)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ias-identity", description="Who is calling, may they.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve until SIGTERM")
    commands.add_parser("migrate", help="bring the database up to date")
    bootstrap = commands.add_parser("bootstrap", help="what a new installation needs first")
    steps = bootstrap.add_subparsers(dest="step", required=True)
    create = steps.add_parser("create-super-admin", help="create a System Admin, if not there yet")
    create.add_argument("--email", required=True)
    create.add_argument(
        "--password-stdin", action="store_true", help="read the password's line from standard input"
    )
    return parser


def _create_super_admin(settings: IdentitySettings, email: str, *, from_stdin: bool) -> None:
    password = sys.stdin.readline().rstrip("\r\n") if from_stdin else getpass.getpass()
    try:
        created = asyncio.run(wiring.create_super_admin(settings, email.strip(), password))
    except IasError as error:
        sys.exit(f"ias-identity: {error.message}")
    if created:
        print(f"Created the System Admin {email} ({created}).")
    else:
        print(f"The System Admin {email} exists already; nothing was changed.")


if __name__ == "__main__":
    main()
