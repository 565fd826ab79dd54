"""The rows of the ledger: a scope in a period, with what is spent and leased.

A row is made when it is first needed, with what the rollups show for it, so that it is right from
its first moment whatever bounds it has.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ias_metering.domain.budgets import Budget, Period, PeriodKey, Scope, period_of
from ias_runtime.postgres import Connection

SPENT_SQL = """coalesce((
    select sum(u.prompt_tokens + u.completion_tokens) from metering.usage_daily u
    where u.organization_id = s.organization_id
      and u.started_at >= s.period_start and u.started_at < s.period_end
      and (s.scope_kind <> 'user' or u.user_id = s.scope_id)
      and (s.scope_kind <> 'api_key' or u.api_key_id = s.scope_id)
), 0)::bigint"""
"""What the rollups show for a row `s`. Periods begin at midnight, so whole days suffice."""

_RESET_DAYS = """
select b.organization_id::text, b.scope_kind, b.scope_id::text, b.reset_day
from unnest($1::uuid[], $2::text[], $3::uuid[]) s (organization_id, scope_kind, scope_id)
join metering.budgets b using (organization_id, scope_kind, scope_id)
"""

_MAKE = f"""
insert into metering.budget_periods
    (organization_id, scope_kind, scope_id, period_start, period_end, limit_tokens, spent)
select s.organization_id, s.scope_kind, s.scope_id, s.period_start, s.period_end,
       (select b.limit_tokens from metering.budgets b
        where (b.organization_id, b.scope_kind, b.scope_id)
            = (s.organization_id, s.scope_kind, s.scope_id)),
       {SPENT_SQL}
from unnest($1::uuid[], $2::text[], $3::uuid[], $4::timestamptz[], $5::timestamptz[])
    s (organization_id, scope_kind, scope_id, period_start, period_end)
where not exists (
    select from metering.budget_periods p
    where (p.organization_id, p.scope_kind, p.scope_id, p.period_start)
        = (s.organization_id, s.scope_kind, s.scope_id, s.period_start))
on conflict do nothing
"""  # noqa: S608 - constants only

_LOCK = """
select p.organization_id::text, p.scope_kind, p.scope_id::text, p.period_start, p.period_end,
       p.limit_tokens, p.spent, p.leased
from unnest($1::uuid[], $2::text[], $3::uuid[], $4::timestamptz[])
    with ordinality s (organization_id, scope_kind, scope_id, period_start, position)
join metering.budget_periods p using (organization_id, scope_kind, scope_id, period_start)
order by s.position for update of p
"""

_MOVE = """
update metering.budget_periods p set spent = p.spent + s.spent, leased = p.leased + s.leased
from unnest($1::uuid[], $2::text[], $3::uuid[], $4::timestamptz[], $5::bigint[], $6::bigint[])
    s (organization_id, scope_kind, scope_id, period_start, spent, leased)
where (p.organization_id, p.scope_kind, p.scope_id, p.period_start)
    = (s.organization_id, s.scope_kind, s.scope_id, s.period_start)
  and (s.leased <= 0 or p.limit_tokens is null
       or p.spent + p.leased + s.leased <= p.limit_tokens)
"""


@dataclass(slots=True)
class Move:
    """What is added to a row; negative takes away."""

    spent: int = 0
    leased: int = 0


def moves() -> defaultdict[PeriodKey, Move]:
    """No moves yet."""
    return defaultdict(Move)


async def reset_days(connection: Connection, scopes: Collection[Scope]) -> Mapping[Scope, int]:
    """The reset day of each scope."""
    rows = await connection.fetch(_RESET_DAYS, *_columns(scopes))
    found = {(row[0], row[1], row[2]): row[3] for row in rows}
    return {s: found.get((s.organization_id, s.kind.value, s.scope_id), 1) for s in scopes}


async def make(connection: Connection, periods: Mapping[PeriodKey, Period]) -> None:
    """Makes the rows that do not exist yet. Must come before the charges they would count."""
    keys = _sorted(periods)
    ends = [periods[key].end for key in keys]
    await connection.execute(
        _MAKE, *_columns(key.scope for key in keys), [key.start for key in keys], ends
    )


async def current(
    connection: Connection, scopes: Collection[Scope], now: datetime
) -> dict[PeriodKey, Period]:
    """The periods that `now` belongs to, their rows made."""
    days = await reset_days(connection, scopes)
    periods = {}
    for scope in scopes:
        period = period_of(now, days[scope])
        periods[PeriodKey(scope, period.start)] = period
    await make(connection, periods)
    return periods


async def lock(connection: Connection, keys: Collection[PeriodKey]) -> list[Budget]:
    """Locks rows, and says how they stand, in the order of PeriodKey.lock_order."""
    ordered = _sorted(keys)
    rows = await connection.fetch(
        _LOCK, *_columns(key.scope for key in ordered), [key.start for key in ordered]
    )
    if len(rows) != len(ordered):
        raise AssertionError("a period row vanished under its fence")
    return [_budget(key, row) for key, row in zip(ordered, rows, strict=True)]


async def apply(connection: Connection, changes: Mapping[PeriodKey, Move]) -> None:
    """Moves tokens in rows that are locked. What is leased never goes beyond a limit."""
    keys = [key for key in _sorted(changes) if changes[key].spent or changes[key].leased]
    if not keys:
        return
    done = await connection.execute(
        _MOVE,
        *_columns(key.scope for key in keys),
        [key.start for key in keys],
        [changes[key].spent for key in keys],
        [changes[key].leased for key in keys],
    )
    if done != f"UPDATE {len(keys)}":
        raise AssertionError(f"the ledger refused a move: {done} of {len(keys)}")


def _budget(key: PeriodKey, row: Any) -> Budget:
    return Budget(
        scope=key.scope,
        limit_tokens=row[5],
        reset_day=key.start.day,
        period=Period(row[3], row[4]),
        spent=row[6],
        leased=row[7],
    )


def _sorted(keys: Iterable[PeriodKey]) -> list[PeriodKey]:
    return sorted(keys, key=lambda key: key.lock_order)


def _columns(scopes: Iterable[Scope]) -> tuple[list[str], list[str], list[str]]:
    listed = list(scopes)
    return (
        [scope.organization_id for scope in listed],
        [scope.kind.value for scope in listed],
        [scope.scope_id for scope in listed],
    )
