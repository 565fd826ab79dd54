"""What the handlers and the consumer need from the outside, and how it fails.

All of them raise what `ias_runtime.rpc` answers with UNAVAILABLE when the database is down; then
nothing was changed.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from ias_metering.domain.budgets import Budget, BudgetChange, Scope
from ias_metering.domain.events import Received, Settlement
from ias_metering.domain.leases import Grant, LeaseTimes, Refusal, Renewal, Subject
from ias_metering.domain.usage import UsageQuery, UsageRow
from ias_runtime.caller import Caller


class Budgets(Protocol):
    """Limits and what is spent of them."""

    async def get(self, scope: Scope, now: datetime) -> Budget:
        """How a scope stands; one that was never set or spent from is unlimited and unspent."""
        ...

    async def update(
        self, caller: Caller, scope: Scope, change: BudgetChange, now: datetime
    ) -> Budget:
        """Sets a budget from the current period on, and audits it in the same transaction."""
        ...


class Leases(Protocol):
    """Tokens taken out of budgets in advance."""

    async def acquire(
        self, subject: Subject, holder: str, need: int, want: int, now: datetime
    ) -> Grant | Refusal:
        """Takes between `need` and `want` tokens from all three scopes, or nothing."""
        ...

    async def renew(self, lease_id: str, need: int, want: int, now: datetime) -> Renewal:
        """Prolongs a lease and takes more tokens. Raises NotFound when it has ended."""
        ...

    async def release(self, lease_id: str, used: int, now: datetime) -> int:
        """Ends a lease and says how many tokens went back; 0 when it had ended or never was."""
        ...

    async def sweep(self, now: datetime) -> int:
        """Gives back what leases hold that ended unsettled; the number of leases swept."""
        ...

    @property
    def times(self) -> LeaseTimes:
        """How long leases hold."""
        ...


class Events(Protocol):
    """The ledger's side of the queue."""

    async def settle(self, received: Sequence[Received], now: datetime) -> Settlement:
        """Charges what is new, once and for good: when this returns, it is committed.

        Redelivery, reordering and concurrent calls are harmless.
        """
        ...


class Usage(Protocol):
    """Sums, from rollups that are written with each charge."""

    async def query(self, query: UsageQuery) -> list[UsageRow]:
        """At most `query.rows` rows, in the order of the dimensions."""
        ...
