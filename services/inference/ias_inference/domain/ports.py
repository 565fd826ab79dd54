"""What the rules of inference need from the outside, and what happens on absence and failure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ias_inference.domain.usage import Usage
from ias_runtime.caller import Caller


@dataclass(slots=True)
class Draw:
    """One request's hold on a lease."""

    lease_id: str
    tokens: int
    """Drawn so far; the request may use no more without `Leases.extend`."""


@dataclass(frozen=True, slots=True)
class BudgetState:
    """The tightest budget that applies to a key, as last heard."""

    scope: str
    """`organization`, `user` or `api_key`."""
    limit_tokens: int
    remaining_tokens: int
    """Left in the period, the tokens of the lease in hand included."""
    reset_time: datetime


class Leases(Protocol):
    """Tokens taken out of budgets in advance, per API key."""

    async def draw(self, caller: Caller, *, need: int, want: int, whole: bool) -> Draw:
        """Takes tokens for one request: at least `need`, at most `want`.

        `need` is prompt + the usual answer, `want` is prompt + the longest answer it may have.
        While there is plenty, `need` is drawn (or `want`, if `whole`: the request cannot be
        extended). When a budget runs low, `want` is tried first; if it has no room, the request
        waits, first come first served, for what others in flight give back; when nothing can come
        back any more, it gets what is left if that is at least `need`.

        Returns without awaiting anything when the lease in hand suffices. Raises ResourceExhausted
        (INSUFFICIENT_QUOTA, with scope, reset_time, limit in the metadata) when there is no room,
        Unavailable when metering can't be reached and the lease in hand doesn't suffice.
        """
        ...

    async def extend(self, draw: Draw, *, tokens: int) -> bool:
        """Draws `tokens` more. False when there is no room or metering can't be reached."""
        ...

    def settle(self, draw: Draw, used: int) -> None:
        """Ends a draw: `used` tokens are or will be in its usage event, the rest goes back.

        `used` may exceed the draw when an engine counts the prompt only afterwards.
        """
        ...

    def budget(self, caller: Caller) -> BudgetState | None:
        """The tightest budget; None when none has a limit or none was heard of yet."""
        ...


class UsageRecorder(Protocol):
    """The spool: what is in it survives `kill -9` and reaches metering, once."""

    def check(self) -> None:
        """Raises Unavailable (SPOOL_FULL) when nothing more can be recorded."""
        ...

    def checkpoint(self, usage: Usage) -> None:
        """Notes what a running request has used so far; in the spool within milliseconds.

        If the process dies before `record`, the last checkpoint becomes the event (INTERRUPTED).
        """
        ...

    async def record(self, usage: Usage) -> None:
        """Records the final event; returns when it is in the spool.

        The event is taken before anything is awaited: who is cancelled here loses the wait alone.
        Raises Unavailable (SPOOL_FULL) when it can't be written.
        """
        ...
