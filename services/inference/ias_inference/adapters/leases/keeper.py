"""The calls to metering on behalf of one account: one at a time, in a task of its own."""

import asyncio
from time import monotonic

import structlog

from ias_inference.adapters.leases.account import Account, Extension, Waiting
from ias_inference.adapters.leases.held import HeldLease
from ias_inference.adapters.leases.quota import (
    LeaseEnded,
    Outcome,
    QuotaClient,
    Refusal,
    Unreachable,
)
from ias_inference.adapters.leases.timing import Timing
from ias_inference.domain.ports import BudgetState

log = structlog.get_logger()

MAX_TOKENS = 10**12
"""The most that metering grants in one call."""


class Keeper:
    """Keeps an account in tokens while it is used, and gives them back when it is not."""

    def __init__(self, account: Account, quota: QuotaClient, timing: Timing) -> None:
        self._account = account
        self._quota = quota
        self._timing = timing
        self._delay = timing.poll_first
        self._running_low = False
        self._closing = False

    def close(self) -> None:
        """Makes `run` end soon, with all released that has no draw in flight."""
        self._closing = True
        self._account.wake.set()

    async def run(self) -> None:
        """Returns when nothing is held, in flight or remembered, or after `close`."""
        try:
            while not (self._closing or self._is_done()):
                await self._pause()
                await self._turn()
            await self._release_idle()
        finally:
            self._account.cut_off(self._timing.ttl)

    async def _turn(self) -> None:
        try:
            await self._step()
        except Unreachable:
            self._account.cut_off(self._timing.down)
        except Exception:  # whoever waits must not wait forever
            log.exception("lease keeper failed")
            self._account.cut_off(self._timing.down)
        await self._release_idle()

    async def _pause(self) -> None:
        account, now = self._account, monotonic()
        wait = self._idle_s()
        if account.waiting:
            wait = min(wait, account.ask_at - now)
        elif not account.in_flight():
            wait = min(wait, max(account.last_draw + wait - now, self._timing.poll_first))
        if wait > 0 and not account.wake.is_set():
            try:
                async with asyncio.timeout(wait):
                    await account.wake.wait()
            except TimeoutError:
                pass
        account.wake.clear()

    async def _step(self) -> None:
        self._account.demand.sample(monotonic())
        await self._extend()
        await self._admit()
        await self._renew_ahead()
        await self._prolong_old()

    async def _admit(self) -> None:
        """Serves the queue until its head has to wait: for a settled request, or to ask again."""
        account, timing = self._account, self._timing
        while not self._closing and (head := account.serve()) is not None:
            now = monotonic()
            lease = account.usable_lease(now)
            if now >= account.ask_at:
                await self._ask(head, lease)
                continue
            waited = now - head.since
            in_flight = account.in_flight()
            in_hand = lease.available if lease is not None else 0
            if in_flight and in_flight + in_hand >= head.need and waited < timing.queue:
                return
            if account.serve_what_is_left(head):
                continue
            if lease is not None and not lease.drawn:
                # What is in hand is too little, and counts as taken while it is held.
                await self._release_current()
                account.ask_at = 0.0
                continue
            refusal = account.refusal
            if refusal is None or account.refused_need > head.need:
                account.ask_at = 0.0
            elif not refusal.may_free_up:
                account.refuse(refusal, patience_s=0.0, remember_s=timing.refusal)
            elif waited >= timing.patience:
                account.refuse(refusal, patience_s=timing.patience, remember_s=0.0)
            else:
                return

    async def _ask(self, head: Waiting, lease: HeldLease | None) -> None:
        """Asks for what the head needs and, at best, for all who wait and the next seconds."""
        account = self._account
        low = self._running_low if lease is None else lease.is_low_for(head.want)
        total = sum(one.want if low or one.whole else one.need for one in account.waiting)
        available = lease.available if lease is not None else 0
        if lease is not None and low:
            total += lease.exposure
        need = max(0, head.need - available)
        ahead = 0 if low else account.demand.ahead(monotonic())
        if not low and lease is None:
            ahead = max(ahead, head.need * 3)
        want = max(need, min(total + ahead - available, MAX_TOKENS))
        added, account.refusal = await self._take(lease, need, want)
        if 0 < want <= added or (lease is not None and lease.ended):
            account.ask_at = 0.0
            self._delay = self._timing.poll_first
            return
        if account.refusal is not None:
            account.refused_need = head.need
        now = monotonic()
        account.ask_at = now + self._delay
        patient = now - head.since < self._timing.patience
        longest = self._timing.poll if patient else self._timing.poll * 5
        self._delay = min(self._delay * 2, longest)

    async def _take(
        self, lease: HeldLease | None, need: int, want: int
    ) -> tuple[int, Refusal | None]:
        """One call: the tokens that came, and why none did."""
        account = self._account
        sent_at = monotonic()
        before = 0
        if lease is None:
            outcome = await self._quota.acquire(account.subject, need, want)
            if outcome.grant is not None:
                account.lease = HeldLease(outcome.grant, sent_at, monotonic())
        else:
            before = lease.granted
            try:
                outcome = await self._quota.renew(lease.lease_id, need, want)
            except LeaseEnded:
                log.warning("lease ended at metering", lease_id=lease.lease_id, drawn=lease.drawn)
                lease.ended = True
                account.usable_lease(monotonic())
                return 0, None  # asking again brings a new lease
            assert outcome.grant is not None
            lease.update(outcome.grant, sent_at, monotonic())
        self._note(outcome)
        added = outcome.grant.granted_tokens - before if outcome.grant is not None else 0
        return added, outcome.refusal

    def _note(self, outcome: Outcome) -> None:
        account = self._account
        account.down_until = 0.0
        grant = outcome.grant
        if grant is not None and (grant.budget is not None or outcome.refusal is None):
            account.budget = grant.budget
        elif outcome.refusal is not None:
            account.budget = _spent(outcome.refusal)
        lease = account.lease
        self._running_low = lease is None or not lease.outside
        account.low = 0 if lease is None or not lease.outside else self._target(lease) // 3

    def _target(self, lease: HeldLease) -> int:
        return min(self._account.demand.ahead(monotonic()), lease.outside)

    async def _renew_ahead(self) -> None:
        """Asks for more before it is missed, and for more time before it is over."""
        account, now = self._account, monotonic()
        lease = account.usable_lease(now)
        if lease is None or account.waiting or self._closing:
            return
        if lease.outside:
            account.low = max(account.low, self._target(lease) // 3)
        in_use = lease.drawn or now - account.last_draw < self._idle_s()
        if lease.available < account.low or (in_use and now >= lease.renew_at):
            want = max(0, self._target(lease) - lease.available)
            await self._take(lease, 0, want)

    async def _extend(self) -> None:
        """Takes more for running requests; what is refused is refused at once."""
        account = self._account
        while account.extensions:
            first = account.extensions[0]
            lease = first.draw.lease
            if not (first.future.done() or first.draw.settled or lease.ended):
                need = max(0, first.tokens - lease.available)
                if need:
                    want = sum(one.tokens for one in account.extensions if one.draw.lease is lease)
                    await self._take(lease, need, max(need, want - lease.available))
            self._answer(account.extensions.popleft())

    def _answer(self, extension: Extension) -> None:
        if not extension.future.done():
            grown = self._account.grow(extension.draw, extension.tokens)
            extension.future.set_result(grown)

    async def _prolong_old(self) -> None:
        account = self._account
        for lease in list(account.old):
            if lease.drawn and not lease.ended and monotonic() >= lease.renew_at:
                await self._take(lease, 0, 0)

    async def _release_idle(self) -> None:
        account, now = self._account, monotonic()
        lease = account.lease
        if lease is not None and not lease.drawn:
            unused = now - account.last_draw >= self._idle_s()
            if self._closing or (unused and not account.waiting):
                await self._release_current()
        for old in [old for old in account.old if not old.drawn]:
            account.old.remove(old)
            await self._release(old)

    async def _release_current(self) -> None:
        lease = self._account.lease
        assert lease is not None
        self._account.lease = None
        self._account.low = 0
        await self._release(lease)

    async def _release(self, lease: HeldLease) -> None:
        if lease.ended:
            return
        try:
            await self._quota.release(lease.lease_id, lease.used)
        except (Unreachable, LeaseEnded):
            log.info("lease not released; it will expire", lease_id=lease.lease_id)

    def _idle_s(self) -> float:
        lease = self._account.lease
        scarce = lease is not None and not lease.outside
        return self._timing.scarce_idle if scarce else self._timing.idle

    def _is_done(self) -> bool:
        account, now = self._account, monotonic()
        return (
            account.lease is None
            and not account.old
            and not account.waiting
            and not account.extensions
            and now >= account.refused_until
            and now >= account.down_until
        )


def _spent(refusal: Refusal) -> BudgetState:
    remaining = max(0, refusal.limit_tokens - refusal.spent_tokens)
    return BudgetState(refusal.scope, refusal.limit_tokens, remaining, refusal.reset_time)
