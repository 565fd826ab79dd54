"""The spinner for what takes long."""

import io
import sys
import threading

import pytest

from ias_admin import progress


class Screen(io.StringIO):
    """A terminal that tells when something is drawn on it."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if "Waiting" in text:
            self.drawn.set()
        return super().write(text)


@pytest.fixture
def screen(monkeypatch):
    found = Screen()
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setenv("TERM", "xterm")
    return found


def test_what_takes_long_shows_that_it_goes_on(screen, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE_S", 0.01)
    with progress.waiting():
        assert screen.drawn.wait(10)


def test_what_is_quick_shows_nothing(screen):
    with progress.waiting():
        pass
    assert screen.getvalue() == ""


def test_nothing_is_drawn_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress.waiting():
        assert threading.active_count() >= 1
    assert sys.stderr.getvalue() == ""
