"""Budgets: what was set, and how it stands in the current period."""

from datetime import datetime

from ias_metering.adapters.postgres import periods
from ias_metering.adapters.postgres.transactions import exclude, transaction
from ias_metering.domain.budgets import Budget, BudgetChange, PeriodKey, Scope, period_of
from ias_runtime import audit
from ias_runtime.caller import Caller
from ias_runtime.postgres import Connection, Pool

_GET = f"""
select p.limit_tokens as period_limit, p.spent as period_spent, coalesce(p.leased, 0) as leased,
       (select limit_tokens from metering.budgets b
        where (b.organization_id, b.scope_kind, b.scope_id)
            = (s.organization_id, s.scope_kind, s.scope_id)) as limit_tokens,
       coalesce(p.spent, {periods.SPENT_SQL}) as spent
from (select $1::uuid as organization_id, $2::text as scope_kind, $3::uuid as scope_id,
             $4::timestamptz as period_start, $5::timestamptz as period_end) s
left join metering.budget_periods p using (organization_id, scope_kind, scope_id, period_start)
"""  # noqa: S608 - constants only

_SET = """
insert into metering.budgets (organization_id, scope_kind, scope_id, limit_tokens, reset_day)
values ($1, $2, $3, $4, $5)
on conflict (organization_id, scope_kind, scope_id) do update
set limit_tokens = excluded.limit_tokens, reset_day = excluded.reset_day, updated_at = now()
"""

_SET_LIMIT = """
update metering.budget_periods set limit_tokens = $5
where organization_id = $1 and scope_kind = $2 and scope_id = $3 and period_start >= $4
"""

# The bounds of every period of the scope have changed. Rows of other bounds would be stale when
# the day is changed back; they are made anew from the rollups when they are needed.
_FORGET = """
delete from metering.budget_periods
where organization_id = $1 and scope_kind = $2 and scope_id = $3
"""

# Which column of a lease points at the row of a scope, and whose leases they are.
_LEASE_COLUMNS = {
    "organization": ("organization_period", "organization_id"),
    "user": ("user_period", "user_id"),
    "api_key": ("api_key_period", "api_key_id"),
}
_MOVE_LEASES = """
with moved as (
    update metering.leases set {period} = $3
    where organization_id = $1 and {owner} = $2
      and (state = 'active' or charged + returned < granted)
    returning granted - charged - returned as outstanding
)
update metering.budget_periods
set leased = (select coalesce(sum(outstanding), 0) from moved)
where organization_id = $1 and scope_kind = $4 and scope_id = $2 and period_start = $3
"""


class PostgresBudgets:
    """The `Budgets` port."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, scope: Scope, now: datetime) -> Budget:
        """Reads without making rows: asking about what does not exist leaves no trace."""

        async def work(connection: Connection) -> Budget:
            return await _get(connection, scope, now)

        return await transaction(self._pool, work)

    async def update(
        self, caller: Caller, scope: Scope, change: BudgetChange, now: datetime
    ) -> Budget:
        """Sets a budget from the current period on, and audits it in the same transaction."""

        async def work(connection: Connection) -> Budget:
            await exclude(connection, scope.organization_id)
            before = await _get(connection, scope, now)
            reset_day = change.reset_day or before.reset_day
            limit = change.limit_tokens if change.set_limit else before.limit_tokens
            key = (scope.organization_id, scope.kind.value, scope.scope_id)
            await connection.execute(_SET, *key, limit, reset_day)
            if reset_day != before.reset_day:
                await connection.execute(_FORGET, *key)
            period = period_of(now, reset_day)
            await periods.make(connection, {PeriodKey(scope, period.start): period})
            await connection.execute(_SET_LIMIT, *key, period.start, limit)
            if reset_day != before.reset_day:
                await _move_leases(connection, scope, period.start)
            after = await _get(connection, scope, now)
            await audit.record(
                connection,
                caller,
                "budget.update",
                f"{scope.kind.value}_budget",
                scope.scope_id,
                organization_id=scope.organization_id,
                before=_snapshot(before),
                after=_snapshot(after),
            )
            return after

        return await transaction(self._pool, work)


async def _get(connection: Connection, scope: Scope, now: datetime) -> Budget:
    reset_day = (await periods.reset_days(connection, [scope]))[scope]
    period = period_of(now, reset_day)
    row = await connection.fetchrow(
        _GET, scope.organization_id, scope.kind.value, scope.scope_id, period.start, period.end
    )
    assert row is not None
    return Budget(scope, row["limit_tokens"], reset_day, period, row["spent"], row["leased"])


async def _move_leases(connection: Connection, scope: Scope, start: datetime) -> None:
    column, owner = _LEASE_COLUMNS[scope.kind.value]
    await connection.execute(
        _MOVE_LEASES.format(period=column, owner=owner),
        scope.organization_id,
        scope.scope_id,
        start,
        scope.kind.value,
    )


def _snapshot(budget: Budget) -> dict[str, object]:
    return {"limit_tokens": budget.limit_tokens, "reset_day": budget.reset_day}
