"""Tokens for bytes: what a prompt will take, before an engine has counted it."""

from collections import deque

_KEPT = 200
_PERCENTILE = 0.98
_MARGIN = 1.1
_REFRESH = 16
_PER_MESSAGE = 8
"""Tokens that a chat template adds to a message, at most in the templates looked at."""
_UNTIL_KNOWN = 0.5
"""Tokens per byte of the request's JSON: English has about 0.25, code and CJK up to 0.45."""
_LIKELY_UNTIL_KNOWN = 0.25


class TokenRatio:
    """Learns tokens per byte for one model from what its engine counted."""

    __slots__ = ("_high", "_likely", "_new", "_seen")

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_KEPT)
        self._new = 0
        self._high = _UNTIL_KNOWN
        self._likely = _LIKELY_UNTIL_KNOWN

    def at_most(self, size_bytes: int, messages: int) -> int:
        """What a prompt of that size hardly ever exceeds."""
        return int(size_bytes * self._high) + messages * _PER_MESSAGE + 1

    def likely(self, size_bytes: int) -> int:
        """What it has on the average; charged only if its engine never tells."""
        return int(size_bytes * self._likely) + 1

    def learn(self, size_bytes: int, messages: int, tokens: int) -> None:
        """Notes what an engine counted."""
        self._seen.append(max(0, tokens - messages * _PER_MESSAGE) / size_bytes)
        self._new += 1
        if self._new >= _REFRESH:
            self._new = 0
            ordered = sorted(self._seen)
            self._high = ordered[int((len(ordered) - 1) * _PERCENTILE)] * _MARGIN
            # Over the bytes alone, since `likely` is asked for by bytes alone.
            self._likely = sum(ordered) / len(ordered)
