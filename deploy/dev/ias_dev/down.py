"""Stops a stack; no process of it stays behind. Its data stay, unless they are to be purged."""

import shutil

from ias_dev import orphans, postgres, programs, stack
from ias_dev.programs import Program
from ias_dev.report import Report
from ias_dev.settings import SERVICES, Settings
from ias_dev.supervisor import Supervisor

_NAMES = ("postgres", "redis", "epmd", "rabbitmq", *SERVICES, "envoy", "envoy-watch")


def down(settings: Settings, report: Report, *, purge: bool = False) -> None:
    """Stops everything, last started first. Does nothing to what doesn't run."""
    if not settings.folder.exists():
        return
    with stack.lock(settings):
        supervisor = Supervisor(settings)
        if supervisor.alive():
            with report.step("Stopping"):
                supervisor.shutdown(reversed(_NAMES))
        if found := orphans.end(_possible(settings)):
            report.say(f"  Ended what an earlier crash had left: {', '.join(found)}")
        if purge:
            with report.step(f"Removing {settings.folder}"):
                postgres.remove(settings)
                shutil.rmtree(settings.folder)


def _possible(settings: Settings) -> list[Program]:
    """Every program that this stack may ever have started, whatever it is set to use now."""
    return [
        Program(name=name, title=name, folder=programs.folder_of(settings, name), command=[])
        for name in reversed(_NAMES)
    ]
