"""What the person at the terminal sees while the stack starts: a line for every step."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text


class Report:
    """Progress on a console; none when made without one."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Says what is being done, and then that it is, and how long it took."""
        if self._console is None:
            yield
            return
        started = time.monotonic()
        with self._console.status(f"{title} …"):
            yield
        took = time.monotonic() - started
        self._console.print(Text(f"  ✓ {title}"), Text(f"({took:.1f} s)", style="dim"))

    def say(self, text: str = "") -> None:
        """A line as it is: never wrapped, so that it can be pasted."""
        if self._console is not None:
            self._console.print(Text(text), soft_wrap=True)
