"""Running another program to its end."""

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ias_dev.settings import DevError


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    user: str = "",
    text: str = "",
) -> None:
    """Runs it with `text` as its input. Raises DevError with its output when it fails."""
    done = _run(command, environment, folder, user, text)
    if done.returncode != 0:
        raise DevError(f"This failed: {' '.join(command)}\n{done.stdout}{done.stderr}".rstrip())


def succeeds(command: Sequence[str], *, user: str = "") -> bool:
    """Whether it ends with success."""
    return _run(command, None, None, user, "").returncode == 0


def _run(
    command: Sequence[str],
    environment: Mapping[str, str] | None,
    folder: Path | None,
    user: str,
    text: str,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the callers' own commands, never a shell
        command,
        env={**os.environ, **(environment or {})},
        cwd=folder,
        user=user or None,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=[] if user else None,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
