"""The port `Leases`, kept by metering's leases."""

import asyncio
from types import TracebackType

import grpc
from ias.metering.v1 import leases_pb2 as pb

from ias_inference.adapters.leases import metrics
from ias_inference.adapters.leases.account import Account
from ias_inference.adapters.leases.demand import Demand
from ias_inference.adapters.leases.held import HeldDraw
from ias_inference.adapters.leases.keeper import Keeper
from ias_inference.adapters.leases.quota import QuotaClient
from ias_inference.adapters.leases.timing import Timing
from ias_inference.domain.ports import BudgetState, Draw
from ias_runtime.caller import Caller
from ias_runtime.caller_token import MeshSigner
from ias_runtime.errors import ResourceExhausted, Unavailable

_USUAL = Timing()


class MeteringLeases:
    """One lease for each API key in use, on one event loop. An async context manager.

    `holder` must differ for every start of every process. Closing gives back what no request
    holds; leases with requests in flight are left to expire, so that nothing is given back twice.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        mesh: MeshSigner,
        holder: str,
        timing: Timing = _USUAL,
    ) -> None:
        self._quota = QuotaClient(channel, mesh, holder, timing)
        self._timing = timing
        self._accounts: dict[str, Account] = {}
        self._keepers: dict[asyncio.Task[None], Keeper] = {}
        self._closing = False

    async def __aenter__(self) -> "MeteringLeases":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        tasks = list(self._keepers)
        for keeper in self._keepers.values():
            keeper.close()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._timing.close)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def draw(self, caller: Caller, *, need: int, want: int, whole: bool) -> Draw:
        """See the port. Suspends only when the lease in hand does not suffice."""
        account = self._accounts.get(caller.api_key_id)
        if account is not None:
            draw = account.take(need, want, whole)
            if draw is not None:
                metrics.GRANTED.inc()
                return draw
        return await self._wait(account or self._open(caller), need, want, whole)

    async def extend(self, draw: Draw, *, tokens: int) -> bool:
        """See the port."""
        assert isinstance(draw, HeldDraw)
        account = draw.account
        if account.grow(draw, tokens):
            return True
        if draw.settled or draw.lease.ended or self._closing:
            return False
        return await account.queue_extension(draw, tokens)

    def settle(self, draw: Draw, used: int) -> None:
        """See the port. A second time changes nothing."""
        assert isinstance(draw, HeldDraw)
        draw.account.settle(draw, used)

    def budget(self, caller: Caller) -> BudgetState | None:
        """See the port; None also for a key that was not used for some seconds."""
        account = self._accounts.get(caller.api_key_id)
        return account.state() if account is not None else None

    async def _wait(self, account: Account, need: int, want: int, whole: bool) -> Draw:
        if self._closing:
            raise Unavailable("metering")
        try:
            future = account.queue(max(need, 1), max(want, need, 1), whole)
            try:
                draw = await future
            except asyncio.CancelledError:
                # The client may leave in the very moment in which its tokens come.
                if future.done() and not future.cancelled() and future.exception() is None:
                    account.settle(future.result(), 0)
                raise
        except ResourceExhausted:
            metrics.REFUSED.inc()
            raise
        except Unavailable:
            metrics.UNAVAILABLE.inc()
            raise
        metrics.GRANTED.inc()
        return draw

    def _open(self, caller: Caller) -> Account:
        key = caller.api_key_id
        subject = pb.LeaseSubject(
            organization_id=caller.organization_id, user_id=caller.user_id, api_key_id=key
        )
        account = Account(subject, Demand(asyncio.get_running_loop().time()))
        self._accounts[key] = account
        keeper = Keeper(account, self._quota, self._timing)
        task = asyncio.create_task(self._keep(key, keeper), name=f"lease keeper {key}")
        self._keepers[task] = keeper
        task.add_done_callback(self._keepers.pop)
        return account

    async def _keep(self, key: str, keeper: Keeper) -> None:
        try:
            await keeper.run()
        finally:
            # Without a pause after `run`: a draw on an account without keeper would wait forever.
            del self._accounts[key]
