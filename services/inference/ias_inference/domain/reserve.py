"""How long a model's answers usually are: what a request draws before it is known."""

from collections import deque

_KEPT = 300
_PERCENTILE = 0.95
_REFRESH = 16
"""Answers between two sortings of the kept ones."""
AT_LEAST = 64
"""Twice a stream's headroom, so that short answers need no second draw."""
UNTIL_KNOWN = 256
"""Tokens assumed for a model that has not answered yet."""


class Reserve:
    """A running high percentile of the answers' lengths, for one model."""

    __slots__ = ("_lengths", "_new", "tokens")

    def __init__(self) -> None:
        self._lengths: deque[int] = deque(maxlen=_KEPT)
        self._new = 0
        self.tokens = UNTIL_KNOWN
        """What 95 of 100 answers did not exceed, and AT_LEAST."""

    def add(self, length: int) -> None:
        """Notes the tokens of one completed answer."""
        self._lengths.append(length)
        self._new += 1
        if self._new >= _REFRESH:
            self._new = 0
            ordered = sorted(self._lengths)
            self.tokens = max(AT_LEAST, ordered[int((len(ordered) - 1) * _PERCENTILE)])
