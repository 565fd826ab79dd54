"""A program of the stack, and the launcher by which supervisor starts it.

Each has a folder `.ias/<name>/` that is its working directory and holds its configuration, its
data, its pid and `run.sh`. The launcher sets the environment (so that no secret stands on a command
line or in supervisor's configuration) and then becomes the program.
"""

import hashlib
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ias_dev import dotenv
from ias_dev.settings import DevError, Settings


@dataclass(frozen=True, slots=True)
class Program:
    """What runs, and how it is stopped."""

    name: str
    title: str
    """What people call it."""
    folder: Path
    command: Sequence[str]
    ports: Sequence[int] = ()
    """Ports that must be free before it starts; the first is the one people ask for."""
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    """Which user it runs as; empty for the one who runs the stack."""
    stop_signal: str = "TERM"
    stop_as_group: bool = True
    """Whether its children get the signal as well."""
    stop_wait_s: int = 20
    digest_of: Sequence[Path] = ()
    """Files and folders of which any change means that it has to be started anew."""

    @property
    def launcher(self) -> Path:
        """The script that supervisor runs."""
        return self.folder / "run.sh"

    def script(self) -> str:
        """The launcher's text."""
        lines = ["#!/bin/sh", "# Written by `make dev-up`.", "set -eu", "umask 077"]
        lines += [
            f"export {name}={shlex.quote(value)}"
            for name, value in sorted(self.environment.items())
        ]
        lines += [f"cd {shlex.quote(str(self.folder))}", "echo $$ >pid"]
        lines += [f"exec {shlex.join(self.command)}", ""]
        return "\n".join(lines)

    def digest(self) -> str:
        """Differs whenever a start would give another process."""
        made = hashlib.sha256(self.script().encode())
        made.update(f"{self.user} {self.stop_signal} {self.stop_wait_s}".encode())
        for path in self.digest_of:
            for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
                seen = file.stat()
                made.update(f"{file} {seen.st_mtime_ns} {seen.st_size}".encode())
        return made.hexdigest()[:16]


def prepare(program: Program) -> None:
    """Makes the program's folder and launcher."""
    program.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    dotenv.write_private(program.launcher, program.script())
    if program.user:
        shutil.chown(program.folder, program.user)
        shutil.chown(program.launcher, program.user)


def find(name: str, *places: str) -> str:
    """The path of an executable. Raises DevError when it is not installed."""
    path = os.pathsep.join((*places, os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"))
    found = shutil.which(name, path=path)
    if found is None:
        raise DevError(f"{name} is not installed; `make dev-up` installs it as root or with sudo.")
    return found


def folder_of(settings: Settings, name: str) -> Path:
    """Where a program lives."""
    return settings.folder / name
