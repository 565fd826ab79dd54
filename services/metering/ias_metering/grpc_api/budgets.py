"""BudgetService."""

from collections.abc import Callable
from datetime import datetime

from ias.metering.v1 import budgets_pb2 as pb2

from ias_metering.domain.budgets import (
    LAST_RESET_DAY,
    MAX_LIMIT_TOKENS,
    Budget,
    BudgetChange,
    Scope,
    ScopeKind,
    scope_for,
)
from ias_metering.domain.ports import Budgets
from ias_runtime.caller import Caller
from ias_runtime.errors import InvalidField
from ias_runtime.fields import integer, to_timestamp, uuid_text
from ias_runtime.rpc import Call

_MASKABLE = ("limit_tokens", "reset_day")


class BudgetServicer:
    """Shows and sets budgets."""

    def __init__(self, budgets: Budgets, clock: Callable[[], datetime]) -> None:
        self._budgets = budgets
        self._clock = clock

    async def GetBudget(self, request: pb2.GetBudgetRequest, call: Call) -> pb2.GetBudgetResponse:
        """The budget of a scope."""
        scope = to_scope("scope", request.scope, call.caller)
        budget = await self._budgets.get(scope, self._clock())
        return pb2.GetBudgetResponse(budget=from_budget(budget))

    async def UpdateBudget(
        self, request: pb2.UpdateBudgetRequest, call: Call
    ) -> pb2.UpdateBudgetResponse:
        """Sets it, from this period on."""
        caller = call.caller
        scope = to_scope("budget.scope", request.budget.scope, caller)
        change = to_change(request)
        budget = await self._budgets.update(caller, scope, change, self._clock())
        return pb2.UpdateBudgetResponse(budget=from_budget(budget))


def to_scope(field: str, scope: pb2.BudgetScope, caller: Caller) -> Scope:
    """The scope that is meant, checked against the caller's organisation."""
    return scope_for(
        caller,
        uuid_text(f"{field}.organization_id", scope.organization_id, required=False),
        uuid_text(f"{field}.user_id", scope.user_id, required=False),
        uuid_text(f"{field}.api_key_id", scope.api_key_id, required=False),
    )


def to_change(request: pb2.UpdateBudgetRequest) -> BudgetChange:
    """What the mask names; both fields when it is empty."""
    budget = request.budget
    paths = list(request.update_mask.paths) or _MASKABLE
    for path in paths:
        if path not in _MASKABLE:
            raise InvalidField("update_mask", f"limit_tokens or reset_day, not {path[:100]!r}")
    limit = None
    if budget.HasField("limit_tokens"):
        limit = integer(
            "budget.limit_tokens", budget.limit_tokens, minimum=0, maximum=MAX_LIMIT_TOKENS
        )
    reset_day = integer(
        "budget.reset_day", budget.reset_day or 1, minimum=1, maximum=LAST_RESET_DAY
    )
    return BudgetChange(
        set_limit="limit_tokens" in paths,
        limit_tokens=limit,
        reset_day=reset_day if "reset_day" in paths else None,
    )


def from_budget(budget: Budget) -> pb2.Budget:
    """As the contract shows it."""
    scope = budget.scope
    return pb2.Budget(
        scope=pb2.BudgetScope(
            organization_id=scope.organization_id,
            user_id=scope.scope_id if scope.kind is ScopeKind.USER else "",
            api_key_id=scope.scope_id if scope.kind is ScopeKind.API_KEY else "",
        ),
        limit_tokens=budget.limit_tokens,
        reset_day=budget.reset_day,
        period_start_time=to_timestamp(budget.period.start),
        reset_time=to_timestamp(budget.period.end),
        spent_tokens=budget.spent,
        leased_tokens=budget.leased,
        remaining_tokens=budget.remaining_tokens,
    )
