"""Budgets: tokens per calendar month in UTC, for an organisation, a user or an API key."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from ias_runtime.caller import Caller
from ias_runtime.errors import InvalidField

MAX_LIMIT_TOKENS = 10**15
LAST_RESET_DAY = 28
"""The last day that every month has."""


class ScopeKind(StrEnum):
    """What a budget is for, in the order in which scopes are asked for room."""

    ORGANIZATION = "organization"
    USER = "user"
    API_KEY = "api_key"


_RANK = {kind: rank for rank, kind in enumerate(ScopeKind)}


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose budget. The organisation is part of it, so another's rows never apply."""

    organization_id: str
    kind: ScopeKind
    scope_id: str
    """UUID of the organisation, user or key."""


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` up to, not including, `end`; both at 00:00 UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class PeriodKey:
    """One row of the ledger: a scope in a period."""

    scope: Scope
    start: datetime

    @property
    def lock_order(self) -> tuple[int, str, str, datetime]:
        """Whoever locks several rows locks them in this order, so that no two ever deadlock."""
        scope = self.scope
        return _RANK[scope.kind], scope.organization_id, scope.scope_id, self.start


@dataclass(frozen=True, slots=True)
class Budget:
    """A scope's budget, and how it stands in the current period."""

    scope: Scope
    limit_tokens: int | None
    """None means unlimited."""
    reset_day: int
    period: Period
    spent: int
    leased: int

    @property
    def remaining_tokens(self) -> int | None:
        """What is left, never below 0; None when unlimited."""
        if self.limit_tokens is None:
            return None
        return max(0, self.limit_tokens - self.spent - self.leased)


@dataclass(frozen=True, slots=True)
class BudgetChange:
    """What to set; the other fields stay as they are."""

    set_limit: bool = False
    limit_tokens: int | None = None
    reset_day: int | None = None
    """None leaves it."""


def period_of(moment: datetime, reset_day: int) -> Period:
    """The period that a moment (aware) belongs to. `reset_day` is 1 to 28."""
    moment = moment.astimezone(UTC)
    year, month = moment.year, moment.month
    if moment.day < reset_day:
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    start = datetime(year, month, reset_day, tzinfo=UTC)
    year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    return Period(start, datetime(year, month, reset_day, tzinfo=UTC))


def scopes_of(organization_id: str, user_id: str, api_key_id: str) -> tuple[Scope, Scope, Scope]:
    """The scopes that pay for a key's tokens, in the order in which they are asked for room."""
    return (
        Scope(organization_id, ScopeKind.ORGANIZATION, organization_id),
        Scope(organization_id, ScopeKind.USER, user_id),
        Scope(organization_id, ScopeKind.API_KEY, api_key_id),
    )


def scope_for(caller: Caller, organization_id: str, user_id: str, api_key_id: str) -> Scope:
    """The scope that a caller asks about.

    Raises NotFound when it is in another organisation, and InvalidField when a System Admin does
    not say in which organisation a user or key is, or when both a user and a key are given.
    """
    if user_id and api_key_id:
        raise InvalidField("scope", "either a user_id or an api_key_id, not both")
    if caller.is_system_admin and not organization_id:
        raise InvalidField(
            "scope.organization_id", "required of a System Admin, who has no organisation"
        )
    organization_id = caller.organization(organization_id)
    if user_id:
        return Scope(organization_id, ScopeKind.USER, user_id)
    if api_key_id:
        return Scope(organization_id, ScopeKind.API_KEY, api_key_id)
    return Scope(organization_id, ScopeKind.ORGANIZATION, organization_id)
