"""`.ias/dev.env`: what a running stack tells scripts, in shell syntax."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

HEADER = "# Written by `make dev-up`; read it with `set -a; . .ias/dev.env`. Holds secrets.\n"


def render(values: Mapping[str, str]) -> str:
    """Lines that any POSIX shell reads back as the same values."""
    lines = (f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    return HEADER + "".join(lines)


def write(path: Path, values: Mapping[str, str]) -> None:
    """Writes the file, readable for its owner alone, in one step."""
    write_private(path, render(values))


def read(path: Path) -> dict[str, str]:
    """The values of a file that `write` made; nothing when there is none."""
    if not path.exists():
        return {}
    words = shlex.split(path.read_text(), comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)


def write_private(path: Path, text: str) -> None:
    """Replaces a file in one step, mode 0600, and only when its content differs."""
    if path.exists() and path.read_text() == text:
        return
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
