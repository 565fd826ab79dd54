"""Programs that outlived their supervisord, as after a crash: found by their pids, and ended.

A pid counts only while the process of that number still works in its program's folder, so that a
number that was given to another process since is left alone.
"""

import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from ias_dev.programs import Program
from ias_dev.settings import DevError

_PATIENCE_S = 15


def end(programs: Iterable[Program]) -> list[str]:
    """Ends what is left over, gently, then not; returns the names of the programs it found."""
    found = [(program, pid) for program in programs for pid in _pids(program)]
    for program, pid in found:
        _signal(pid, signal.Signals[f"SIG{program.stop_signal}"])
    _wait(found, _PATIENCE_S)
    for program, pid in found:
        if pid in set(_pids(program)):
            _signal(pid, signal.SIGKILL, group=True)
    if left := _wait(found, _PATIENCE_S):
        raise DevError(f"{left[0][0].title} (pid {left[0][1]}) can't be ended.")
    return [program.title for program, _ in found]


def _pids(program: Program) -> Iterator[int]:
    folder = program.folder.resolve()
    for file in (folder / "pid", folder / "data" / "postmaster.pid"):
        if not file.is_file():
            continue
        first = file.read_text().split("\n", 1)[0].strip()
        if first.isdigit() and _works_in(int(first), folder):
            yield int(first)


def _works_in(pid: int, folder: Path) -> bool:
    try:
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return False
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(folder)
    except OSError:
        return False


def _signal(pid: int, number: signal.Signals, *, group: bool = False) -> None:
    try:
        if group and os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        pass


def _wait(found: list[tuple[Program, int]], seconds: float) -> list[tuple[Program, int]]:
    """What is still there after so long at most."""
    ends = time.monotonic() + seconds
    while True:
        left = [(program, pid) for program, pid in found if pid in set(_pids(program))]
        if not left or time.monotonic() > ends:
            return left
        time.sleep(0.05)
