"""Waiting until something is so, by asking it."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from ias_dev.settings import DevError

T = TypeVar("T")


def until(
    ask: Callable[[], T],
    what: str,
    *,
    timeout_s: float = 60,
    every_s: float = 0.1,
    log: Path | None = None,
) -> T:
    """The first answer that `ask` gives without raising.

    Raises DevError with the last failure and the end of the log, if there is one.
    """
    ends = time.monotonic() + timeout_s
    while True:
        try:
            return ask()
        except DevError:
            raise
        except Exception as error:
            if time.monotonic() > ends:
                cause = str(error) or type(error).__name__
                said = f"{what} was not ready after {timeout_s:.0f} s: {cause}"
                raise DevError(said + _end_of(log)) from error
        time.sleep(every_s)


def _end_of(log: Path | None, lines: int = 10) -> str:
    if log is None or not log.exists():
        return ""
    end = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join([f"\n{log} ends with:", *end])


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end, also where this thread runs an event loop already."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, coroutine).result()
