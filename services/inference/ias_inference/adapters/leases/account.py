"""What one API key holds in this process, who waits for it, and who gets what."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic

from ias.metering.v1 import leases_pb2 as pb

from ias_inference.adapters.leases.demand import Demand
from ias_inference.adapters.leases.held import HeldDraw, HeldLease
from ias_inference.adapters.leases.quota import Refusal
from ias_inference.domain.ports import BudgetState
from ias_runtime.errors import IasError, ResourceExhausted, Unavailable

_OWNERS = {
    "organization": "your organization",
    "user": "your user account",
    "api_key": "this API key",
}


@dataclass(slots=True, eq=False)
class Waiting:
    """A request in the queue."""

    need: int
    want: int
    whole: bool
    since: float
    future: asyncio.Future[HeldDraw]


@dataclass(slots=True, eq=False)
class Extension:
    """A running request that needs more than the lease has."""

    draw: HeldDraw
    tokens: int
    future: asyncio.Future[bool]


@dataclass(slots=True, eq=False)
class Account:
    """The lease of one API key. Nothing here awaits: the calls to metering are the keeper's."""

    subject: pb.LeaseSubject
    demand: Demand
    lease: HeldLease | None = None
    """The lease that is drawn on."""
    old: list[HeldLease] = field(default_factory=list)
    """Leases whose period or life is over, or that metering ended, with draws in flight."""
    waiting: deque[Waiting] = field(default_factory=deque)
    extensions: deque[Extension] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the keeper has something to do."""
    low: int = 0
    """Below so many available tokens the keeper is woken to ask for more ahead."""
    last_draw: float = 0.0
    budget: BudgetState | None = None
    """The tightest budget as metering last told it, without what is in hand."""
    refusal: Refusal | None = None
    """Metering's last word, when that was a refusal."""
    refused_need: int = 0
    refused_until: float = 0.0
    down_until: float = 0.0
    """Until then metering counts as unreachable."""
    ask_at: float = 0.0
    """When metering may be asked on behalf of those who wait."""

    def take(self, need: int, want: int, whole: bool) -> HeldDraw | None:
        """The hot path: a draw if the lease in hand suffices and nobody waits, else None."""
        lease = self.lease
        if lease is None or self.waiting:
            return None
        now = monotonic()
        tokens = lease.fit(need, want, whole, now)
        return self._draw(lease, tokens, want, now) if tokens else None

    def _draw(self, lease: HeldLease, tokens: int, want: int, now: float) -> HeldDraw:
        draw = lease.draw(self, tokens, want)
        demand = self.demand
        demand.tokens += tokens
        demand.latest = tokens
        self.last_draw = now
        if lease.granted - lease.used - lease.drawn < self.low:
            self.wake.set()
        return draw

    def queue(self, need: int, want: int, whole: bool) -> asyncio.Future[HeldDraw]:
        """Lines up a request. Raises at once what metering said a moment ago.

        Raises ResourceExhausted after a refusal, and Unavailable after a failed call unless what
        is in hand is at least the need.
        """
        now = monotonic()
        refused = now < self.refused_until and need >= self.refused_need
        if refused and self.refusal is not None and self.lease is None and not self.in_flight():
            raise exhausted(self.refusal)
        future: asyncio.Future[HeldDraw] = asyncio.get_running_loop().create_future()
        if now < self.down_until:
            draw = None if self.waiting else self._what_is_left(need, want)
            if draw is None:
                raise Unavailable("metering")
            future.set_result(draw)
            return future
        self.waiting.append(Waiting(need, want, whole, now, future))
        self.wake.set()
        return future

    def serve(self) -> Waiting | None:
        """Serves those who wait, first come first served; the first who does not fit."""
        while self.waiting:
            head = self.waiting[0]
            if head.future.done():  # the client left
                self.waiting.popleft()
                continue
            now = monotonic()
            lease = self.lease
            tokens = 0 if lease is None else lease.fit(head.need, head.want, head.whole, now)
            if lease is None or not tokens:
                return head
            self.waiting.popleft()
            head.future.set_result(self._draw(lease, tokens, head.want, now))
        return None

    def serve_what_is_left(self, head: Waiting) -> bool:
        """Gives the head of the queue what is in hand, when that is at least its need."""
        draw = self._what_is_left(head.need, head.want)
        if draw is None:
            return False
        self.waiting.remove(head)
        head.future.set_result(draw)
        return True

    def _what_is_left(self, need: int, want: int) -> HeldDraw | None:
        lease, now = self.lease, monotonic()
        if lease is None or now >= lease.usable_until or lease.available < need:
            return None
        tokens = min(want, lease.available)
        return self._draw(lease, tokens, tokens, now)

    def settle(self, draw: HeldDraw, used: int) -> None:
        """Ends a draw; what it gave back goes to those who wait."""
        if draw.settled:
            return
        draw.lease.settle(draw, used)
        if self.waiting:
            if self.serve() is not None and not self.in_flight():
                self.ask_at = 0.0
                self.wake.set()
        elif used > draw.tokens:  # what is missing must be taken out of the budget
            self.wake.set()

    def grow(self, draw: HeldDraw, tokens: int) -> bool:
        """Adds to a draw from its own lease; False when that does not suffice."""
        lease = draw.lease
        if draw.settled or lease.ended or monotonic() >= lease.expires_at:
            return False
        if lease.available < tokens:
            return False
        lease.grow(draw, tokens)
        if lease is self.lease:
            self.demand.tokens += tokens
            if lease.available < self.low:
                self.wake.set()
        return True

    def queue_extension(self, draw: HeldDraw, tokens: int) -> asyncio.Future[bool]:
        """Has the keeper ask metering for more."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.extensions.append(Extension(draw, tokens, future))
        self.wake.set()
        return future

    def in_flight(self) -> int:
        """Tokens that running requests hold and may give back."""
        drawn = self.lease.drawn if self.lease is not None else 0
        return drawn + sum(lease.drawn for lease in self.old) if self.old else drawn

    def usable_lease(self, now: float) -> HeldLease | None:
        """The lease in hand; set aside when its period or its life is over."""
        if self.lease is not None and (self.lease.ended or now >= self.lease.usable_until):
            self.old.append(self.lease)
            self.lease = None
            self.low = 0
        return self.lease

    def refuse(self, refusal: Refusal, *, patience_s: float, remember_s: float) -> None:
        """Refuses all who need as much as was refused and waited so long; others for a moment."""
        now, need = monotonic(), self.refused_need
        self.refused_until = now + remember_s
        self._fail(
            lambda: exhausted(refusal),
            lambda waiting: waiting.need >= need and now - waiting.since >= patience_s,
        )

    def cut_off(self, down_s: float) -> None:
        """Metering can't be reached: what is in hand is used up, the others are refused."""
        self.low = 0
        self.down_until = monotonic() + down_s
        while self.extensions:
            extension = self.extensions.popleft()
            if not extension.future.done():
                extension.future.set_result(self.grow(extension.draw, extension.tokens))
        for head in list(self.waiting):
            if not head.future.done():
                self.serve_what_is_left(head)
        self._fail(lambda: Unavailable("metering"), lambda waiting: True)

    def _fail(self, error: Callable[[], IasError], concerns: Callable[[Waiting], bool]) -> None:
        staying: deque[Waiting] = deque()
        for waiting in self.waiting:
            if not concerns(waiting):
                staying.append(waiting)
            elif not waiting.future.done():
                waiting.future.set_exception(error())
        self.waiting = staying

    def state(self) -> BudgetState | None:
        """The tightest budget, with what is in hand."""
        budget = self.budget
        if budget is None:
            return None
        held = sum(lease.granted - lease.used for lease in self.old)
        if self.lease is not None:
            held += self.lease.granted - self.lease.used
        return BudgetState(
            budget.scope,
            budget.limit_tokens,
            max(0, min(budget.limit_tokens, budget.remaining_tokens + held)),
            budget.reset_time,
        )


def exhausted(refusal: Refusal) -> ResourceExhausted:
    """The refusal as the client reads it."""
    reset_time = _rfc3339(refusal.reset_time)
    owner = _OWNERS.get(refusal.scope, refusal.scope)
    return ResourceExhausted(
        f"The monthly token budget of {owner} is used up "
        f"(limit {refusal.limit_tokens} tokens). It resets at {reset_time}.",
        reason="INSUFFICIENT_QUOTA",
        metadata={
            "scope": refusal.scope,
            "reset_time": reset_time,
            "limit_tokens": str(refusal.limit_tokens),
        },
    )


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
