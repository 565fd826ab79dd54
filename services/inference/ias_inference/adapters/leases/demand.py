"""How fast a key draws, and so how much to ask for ahead."""

from math import ceil

AHEAD_S = 3.0
"""Seconds of the observed rate that a lease should last."""
AT_LEAST_REQUESTS = 4
SAMPLE_S = 0.5


class Demand:
    """The rate of draws of one key, in tokens per second, quick to rise and slow to fall."""

    __slots__ = ("latest", "rate", "since", "tokens")

    def __init__(self, now: float) -> None:
        self.tokens = 0
        """Drawn since `since`."""
        self.latest = 1
        """The last draw."""
        self.rate = 0.0
        self.since = now

    def sample(self, now: float) -> None:
        """Brings the rate up to date; meant to be called now and then."""
        elapsed = now - self.since
        if elapsed < SAMPLE_S:
            return
        seen = self.tokens / elapsed
        self.rate = max(seen, (self.rate + seen) / 2)
        self.tokens = 0
        self.since = now

    def ahead(self, now: float) -> int:
        """Tokens for the next seconds, in whole requests so that hardly a remainder is left."""
        rate = max(self.rate, self.tokens / max(now - self.since, 1.0))
        requests = max(AT_LEAST_REQUESTS, ceil(rate * AHEAD_S / self.latest))
        return requests * self.latest
