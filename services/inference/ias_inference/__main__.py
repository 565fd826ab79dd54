"""`ias-inference serve | migrate`."""

import argparse
import asyncio

from ias_inference import wiring
from ias_inference.settings import InferenceSettings
from ias_runtime import logs, server


def main() -> None:
    """Runs a subcommand."""
    parser = argparse.ArgumentParser(prog="ias-inference")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve until SIGTERM")
    commands.add_parser("migrate", help="bring the database up to date, then end")
    arguments = parser.parse_args()
    settings = InferenceSettings()  # type: ignore[call-arg]  # from the environment
    logs.configure("inference", settings.log_level)
    if arguments.command == "migrate":
        wiring.migrate_database(settings.database_url.get_secret_value())
    else:
        asyncio.run(server.serve(settings, lambda: wiring.opening(settings)))


if __name__ == "__main__":
    main()
