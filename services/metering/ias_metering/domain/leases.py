"""Leases: tokens taken out of budgets in advance, all scopes or none.

Outstanding tokens of a lease = granted − charged − returned. They are part of `leased` in the
three period rows that they were taken from, until events are charged or they are given back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from ias_metering.domain.budgets import Budget, PeriodKey, ScopeKind, scopes_of

MAX_TOKENS = 10**12
"""More than any request can use; bounds a single grant."""


class LeaseState(StrEnum):
    """Only an active lease can be renewed."""

    ACTIVE = "active"
    RELEASED = "released"
    EXPIRED = "expired"
    """Swept: what was outstanding went back."""


@dataclass(frozen=True, slots=True)
class Subject:
    """On whose behalf tokens are taken. UUIDs."""

    organization_id: str
    user_id: str
    api_key_id: str


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """How long a lease holds its tokens."""

    ttl: timedelta = timedelta(seconds=30)
    """From a grant or renewal to the expiry."""
    grace: timedelta = timedelta(seconds=60)
    """From the expiry until the sweeper gives back what is outstanding."""
    event_grace: timedelta = timedelta(minutes=10)
    """From the release until what was reported as used, but never came as events, goes back."""


@dataclass(frozen=True, slots=True)
class StoredLease:
    """A lease as the ledger has it."""

    lease_id: str
    subject: Subject
    state: LeaseState
    granted: int
    charged: int
    returned: int
    expire_at: datetime
    period_starts: tuple[datetime, datetime, datetime]
    """Of the organisation's, the user's and the key's period rows."""

    @property
    def outstanding(self) -> int:
        """Tokens that it still holds."""
        return self.granted - self.charged - self.returned

    @property
    def periods(self) -> tuple[PeriodKey, PeriodKey, PeriodKey]:
        """The rows of the ledger that it took its tokens from."""
        subject = self.subject
        scopes = scopes_of(subject.organization_id, subject.user_id, subject.api_key_id)
        first, second, third = (
            PeriodKey(scope, start) for scope, start in zip(scopes, self.period_starts, strict=True)
        )
        return first, second, third

    def unused(self, used: int) -> int:
        """What goes back at once when events show, or will show, that `used` tokens were used."""
        return max(0, self.granted - self.returned - max(used, self.charged))


@dataclass(frozen=True, slots=True)
class BudgetState:
    """How a limited scope stands."""

    scope: ScopeKind
    limit_tokens: int
    remaining_tokens: int
    reset_time: datetime


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing was granted."""

    scope: ScopeKind
    """The first scope without room."""
    reset_time: datetime
    limit_tokens: int
    spent_tokens: int
    may_free_up: bool
    """Whether only other leases stand in the way, so that asking again shortly makes sense."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease as its holder sees it."""

    lease_id: str
    granted_tokens: int
    expire_at: datetime
    period_end: datetime
    budget: BudgetState | None
    scarce: bool


@dataclass(frozen=True, slots=True)
class Renewal:
    """A prolonged lease; with a refusal nothing was added."""

    grant: Grant
    refusal: Refusal | None


def decide(budgets: Sequence[Budget], need: int, want: int) -> int | Refusal:
    """How many tokens to grant: the most between `need` and `want` that all scopes have room for.

    `budgets` are in the order in which scopes are asked, and locked. A need of 0 is never refused.
    """
    limited = [budget for budget in budgets if budget.limit_tokens is not None]
    room = min((budget.remaining_tokens or 0 for budget in limited), default=want)
    if room >= need:
        return min(want, room)
    short = next(budget for budget in limited if (budget.remaining_tokens or 0) < need)
    assert short.limit_tokens is not None
    return Refusal(
        scope=short.scope.kind,
        reset_time=short.period.end,
        limit_tokens=short.limit_tokens,
        spent_tokens=short.spent,
        may_free_up=all((b.limit_tokens or 0) - b.spent >= need for b in limited),
    )


def tightest(budgets: Sequence[Budget], granted: int) -> BudgetState | None:
    """The limited scope with the least left after `granted` more were taken from each."""
    states = [
        BudgetState(
            budget.scope.kind,
            budget.limit_tokens,
            max(0, (budget.remaining_tokens or 0) - granted),
            budget.period.end,
        )
        for budget in budgets
        if budget.limit_tokens is not None
    ]
    return min(states, key=lambda state: state.remaining_tokens, default=None)
