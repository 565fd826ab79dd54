"""Which of a model's backends gets a request: the least busy for its weight, if it doesn't fail.

Two things take a backend out. Active checks (health.py) find that it doesn't answer: it comes back
when it answers again. And requests fail, one after the other: it is out for some seconds, twice as
long each time, and comes back when one request on trial succeeds. Failing requests never take out
the last one that is left: a request that every server chokes on must not shut out all others.
A model's only backend is checked, to be told of, and never taken out.
"""

import time
from collections.abc import Collection, Sequence

from ias_inference.domain.models import Backend

FAILURES = 3
"""Requests that fail one after the other, after which a backend is ejected."""
EJECTED_S = (2.0, 60.0)
"""For how long: the first time, and at most."""
UNHEALTHY_CHECKS = 2
"""Checks that fail one after the other, after which a backend counts as dead."""


class Member:
    """One backend of a model, and how it fares."""

    __slots__ = (
        "_ejected_s",
        "_ejected_until",
        "_failed_checks",
        "_failures",
        "_on_trial",
        "_trying",
        "alone",
        "answering",
        "backend",
        "ejections",
        "in_flight",
        "retries",
    )

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.alone = False
        """Whether its model has no other."""
        self.in_flight = 0
        """Requests there now, by which the next is sent; not counted where there is no choice."""
        self.answering = True
        """Whether it passes its checks."""
        self.ejections = 0
        """So far, by checks or by requests."""
        self.retries = 0
        """Requests that left it for another backend."""
        self._failures = 0
        self._failed_checks = 0
        self._ejected_until = 0.0
        self._ejected_s = 0.0
        self._on_trial = False
        self._trying = False

    def is_available(self, now: float) -> bool:
        """Whether it may get a request."""
        return self.answering and now >= self._ejected_until and not self._trying

    @property
    def is_on_trial(self) -> bool:
        """Whether one request finds out at this moment if it works again."""
        return self._trying

    def begin(self) -> None:
        """A request goes there."""
        self.in_flight += 1
        self._trying = self._on_trial

    def end(self) -> None:
        """A request that went there is over, however."""
        self.in_flight -= 1
        self._trying = False

    def note_answer(self) -> None:
        """It has begun to answer a request."""
        self._failures = 0
        self._ejected_s = 0.0
        self._on_trial = self._trying = False

    def note_failure(self, *, dispensable: bool) -> None:
        """It has failed a request; `dispensable` if there are others that may get requests."""
        self._failures += 1
        if dispensable and (self._on_trial or self._failures >= FAILURES):
            least, most = EJECTED_S
            self._ejected_s = min(max(2 * self._ejected_s, least), most)
            self._ejected_until = time.monotonic() + self._ejected_s
            self._on_trial = True
            self._failures = 0
            self.ejections += 1

    def note_check(self, *, passed: bool) -> None:
        """What a check found."""
        if passed:
            self._failed_checks = 0
            self.answering = True
            return
        self._failed_checks += 1
        if self._failed_checks >= UNHEALTHY_CHECKS and self.answering:
            self.answering = False
            self.ejections += not self.alone


class Pool:
    """The backends of one model."""

    def __init__(self, backends: Sequence[Backend], before: "Pool | None" = None) -> None:
        known = {one.backend: one for one in before.members} if before else {}
        self.members: list[Member] = [known.get(backend) or Member(backend) for backend in backends]
        for one in self.members:
            one.alone = len(self.members) == 1
        self._turn = 0

    def choose(self, tried: Collection[Member] = ()) -> Member | None:
        """The least busy for its weight of those that may get a request and weren't tried.

        When there is none, a first try goes to one that was ejected but passes its checks; else
        None. Equals take turns.
        """
        now = time.monotonic()
        self._turn = (self._turn + 1) % len(self.members)
        inturn = (*self.members[self._turn :], *self.members[: self._turn])
        fit = [one for one in inturn if one.is_available(now) and one not in tried]
        if not fit and not tried:
            fit = [one for one in inturn if one.answering]
        return min(fit, key=_load, default=None)

    def has_other(self, tried: Collection[Member]) -> bool:
        """Whether a backend that wasn't tried may get a request."""
        now = time.monotonic()
        return any(one not in tried and one.is_available(now) for one in self.members)

    def states(self) -> list[tuple[Member, bool]]:
        """The backends, and whether each may get requests (or will, after the one on trial).

        For a backend that is alone, and gets all of them, whether it passes its checks.
        """
        now = time.monotonic()
        return [
            (one, one.answering if one.alone else one.is_available(now) or one.is_on_trial)
            for one in self.members
        ]

    def note_failure(self, member: Member) -> None:
        """A backend of this pool has failed a request."""
        now = time.monotonic()
        others = (one for one in self.members if one is not member)
        member.note_failure(dispensable=any(one.is_available(now) for one in others))


def _load(member: Member) -> float:
    return (member.in_flight + 1) / member.backend.weight
