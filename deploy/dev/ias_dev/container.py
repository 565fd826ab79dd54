"""The same stack in containers: what deploy/compose.yaml runs.

python -m ias_dev.container setup         makes the secrets, migrates, creates the System Admin
python -m ias_dev.container run NAME      becomes a service, with the secrets made for it
python -m ias_dev.container health NAME   exit code 0 when the service serves
python -m ias_dev.container demo          makes the demo data, and prints how to use them
"""

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from ias_dev import demo, dotenv, keys, seed, services
from ias_dev.report import Report
from ias_dev.settings import SERVICES, DevError, Settings, from_environment

ENVIRONMENTS = Path("/var/lib/ias-env")
"""A folder for each service, so that each sees its own secrets alone."""


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="ias_dev.container")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("setup")
    commands.add_parser("demo")
    for command in ("run", "health"):
        commands.add_parser(command).add_argument("name", choices=SERVICES)
    arguments = parser.parse_args()
    try:
        settings = from_environment()
        if arguments.command == "setup":
            setup(settings, ENVIRONMENTS)
        elif arguments.command == "run":
            run(arguments.name, ENVIRONMENTS)
        elif arguments.command == "health":
            services.wait(settings, arguments.name)
        else:
            make_demo(settings)
    except DevError as error:
        sys.exit(f"ias_dev.container: {error}")


def setup(settings: Settings, environments: Path) -> None:
    """Everything that comes before the first service; the same again changes nothing."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    known = keys.load(settings.folder)
    for name in SERVICES:
        folder = environments / name
        folder.mkdir(parents=True, exist_ok=True)
        dotenv.write(folder / "environment", services.environment(settings, known, name))
    services.migrate(settings, known)
    services.bootstrap(settings, known)


def run(name: str, environments: Path) -> None:
    """Becomes the service. What the container's own environment says goes before."""
    values = dotenv.read(environments / name / "environment")
    command = [sys.executable, "-m", f"ias_{name}", "serve"]
    os.execve(sys.executable, command, {**values, **os.environ})  # noqa: S606 - no shell wanted


def make_demo(settings: Settings) -> None:
    """Works from within Envoy's network, where the front door is on this host."""
    report = Report(Console(highlight=False))
    found = seed.seed(settings, keys.load(settings.folder))
    demo.wait_for_completion(settings, found)
    report.say(dotenv.render(demo.variables(settings, found)))
    report.say(demo.curl(settings, found))


if __name__ == "__main__":
    main()
