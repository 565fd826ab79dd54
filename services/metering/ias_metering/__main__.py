"""`ias-metering serve | migrate`."""

import argparse
import asyncio
from pathlib import Path

from ias_metering import wiring
from ias_metering.settings import Settings
from ias_runtime import audit, logs, migrations, server


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="ias-metering", description="Budgets, leases, usage.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve until SIGTERM")
    commands.add_parser("migrate", help="bring the schema up to date")
    command = parser.parse_args().command
    settings = Settings()  # type: ignore[call-arg]  # from the environment
    logs.configure("metering", settings.log_level)
    if command == "migrate":
        migrate(settings.database_url.get_secret_value())
    else:
        asyncio.run(server.serve(settings, lambda: wiring.opening(settings)))


def migrate(database_url: str) -> None:
    """Brings the schemas `audit` and `metering` up to date."""
    audit.migrate(database_url)
    migrations.migrate(database_url, "metering", Path(__file__).parent / "migrations")


if __name__ == "__main__":
    main()
