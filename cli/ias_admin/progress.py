"""A spinner on stderr for whatever takes longer than two seconds, on terminals alone."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status

PATIENCE_S = 2.0


@contextmanager
def waiting(text: str = "Waiting for IAS …") -> Iterator[None]:
    """Shows `text` with a spinner if the block takes longer than PATIENCE_S."""
    if not sys.stderr.isatty():
        yield
        return
    spinner = _Spinner(text)
    timer = threading.Timer(PATIENCE_S, spinner.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        spinner.stop()


class _Spinner:
    """A status line that never starts once it was stopped: the timer may fire late."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lock = threading.Lock()
        self._status: Status | None = None
        self._over = False

    def start(self) -> None:
        with self._lock:
            if not self._over:
                self._status = Console(stderr=True).status(self._text)
                self._status.start()

    def stop(self) -> None:
        with self._lock:
            self._over = True
            if self._status is not None:
                self._status.stop()
