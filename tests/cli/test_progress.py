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
    """Puts a terminal in the place of stderr: called by the test, since pytest puts its own there
    before each test's body."""

    def put():
        found = Screen()
        monkeypatch.setattr(sys, "stderr", found)
        monkeypatch.setenv("TERM", "xterm")
        return found

    return put


def test_what_takes_long_shows_that_it_goes_on(screen, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE_S", 0.01)
    shown = screen()
    with progress.waiting():
        assert shown.drawn.wait(10)


def test_what_is_quick_shows_nothing(screen):
    shown = screen()
    with progress.waiting():
        pass
    assert shown.getvalue() == ""


def test_nothing_is_drawn_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    before = threading.active_count()
    with progress.waiting():
        assert threading.active_count() == before
    assert sys.stderr.getvalue() == ""
