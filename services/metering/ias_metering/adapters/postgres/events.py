"""Settling usage events: at-least-once delivery becomes exactly-once accounting here."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from ias_metering.adapters.postgres import leases, periods
from ias_metering.adapters.postgres.transactions import share, transaction
from ias_metering.domain.budgets import Period, PeriodKey, Scope, period_of, scopes_of
from ias_metering.domain.events import (
    Charges,
    Received,
    RollupKey,
    Settlement,
    Sums,
    distinct,
    sum_up,
)
from ias_runtime.postgres import Connection, Pool

_TYPES = {
    "event_id": "uuid",
    "occurred_at": "timestamptz",
    "organization_id": "uuid",
    "user_id": "uuid",
    "api_key_id": "uuid",
    "lease_id": "uuid",
    "model": "text",
    "operation": "text",
    "status": "smallint",
    "prompt_tokens": "bigint",
    "completion_tokens": "bigint",
    "cached_tokens": "bigint",
    "cost_nanos": "bigint",
    "time_to_first_token_us": "bigint",
    "duration_us": "bigint",
    "request_id": "text",
    "streamed": "boolean",
}
_NAMES = ", ".join(_TYPES)
_ARRAYS = ", ".join(f"${n}::text::{type_}[]" for n, type_ in enumerate(_TYPES.values(), start=1))
_INSERT = f"""
with arrived as (
    select * from unnest({_ARRAYS}, ${len(_TYPES) + 1}::bytea[]) as a ({_NAMES}, digest)
), new as (
    insert into metering.usage_event_ids (event_id, digest)
    select event_id, digest from arrived on conflict do nothing
    returning event_id
), kept as (
    insert into metering.usage_events ({_NAMES})
    select {_NAMES} from arrived join new using (event_id)
)
select event_id::text from new
"""  # noqa: S608 - constants only
_DIGESTS = """
select event_id::text, digest from metering.usage_event_ids where event_id = any($1::uuid[])
"""
_QUARANTINE = """
insert into metering.usage_quarantine (event_id, digest, event)
select * from unnest($1::uuid[], $2::bytea[], $3::bytea[]) on conflict do nothing
"""
_LOCK_LEASES = f"{leases.SELECT} where lease_id = any($1::uuid[]) order by lease_id for update"
_CHARGE_LEASES = """
update metering.leases l set charged = l.charged + c.tokens
from unnest($1::uuid[], $2::bigint[]) c (lease_id, tokens) where l.lease_id = c.lease_id
"""
_ROLL_UP = """
insert into metering.usage_{name} as u (organization_id, started_at, user_id, api_key_id, model,
    requests, failed_requests, prompt_tokens, completion_tokens, cached_tokens, cost_nanos)
select * from unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::uuid[], $5::text[],
    $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])
on conflict (organization_id, started_at, user_id, api_key_id, model) do update set
    requests = u.requests + excluded.requests,
    failed_requests = u.failed_requests + excluded.failed_requests,
    prompt_tokens = u.prompt_tokens + excluded.prompt_tokens,
    completion_tokens = u.completion_tokens + excluded.completion_tokens,
    cached_tokens = u.cached_tokens + excluded.cached_tokens,
    cost_nanos = u.cost_nanos + excluded.cost_nanos
"""
_HOURLY = _ROLL_UP.format(name="hourly")
_DAILY = _ROLL_UP.format(name="daily")


class PostgresEvents:
    """The `Events` port.

    Whoever settles locks in one order: fences, new period rows, event ids, leases, rollups, period
    rows; and sorted within each. The period rows come last, since everyone waits for those.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def settle(self, received: Sequence[Received], now: datetime) -> Settlement:
        """Charges what is new, once and for good: when this returns, it is committed."""
        first, repeated = distinct(received)

        async def work(connection: Connection) -> Settlement:
            await share(connection, {one.event.organization_id for one in first})
            days = await _make_periods(connection, first)
            new = await _insert(connection, first)
            known = [one for one in first if one.event.event_id not in new] + repeated
            quarantined = await _quarantine(connection, known)
            charges = sum_up(one.event for one in first if one.event.event_id in new)
            moves = periods.moves()
            await _charge_leases(connection, charges, moves)
            await _roll_up(connection, _HOURLY, charges.hourly)
            await _roll_up(connection, _DAILY, charges.daily)
            for scope, day, tokens in charges.spent():
                moves[PeriodKey(scope, period_of(day, days[scope]).start)].spent += tokens
            await periods.lock(connection, moves)
            await periods.apply(connection, moves)
            return Settlement(len(new), len(known) - quarantined, quarantined)

        return await transaction(self._pool, work)


async def _make_periods(connection: Connection, received: Sequence[Received]) -> dict[Scope, int]:
    """Makes the rows that the batch will charge; the reset day of each scope in it."""
    moments = {
        (event.organization_id, event.user_id, event.api_key_id, event.occurred_at.date()): event
        for event, _, _ in received
    }
    scoped = [
        (scope, event.occurred_at)
        for event in moments.values()
        for scope in scopes_of(event.organization_id, event.user_id, event.api_key_id)
    ]
    days = dict(await periods.reset_days(connection, {scope for scope, _ in scoped}))
    needed: dict[PeriodKey, Period] = {}
    for scope, moment in scoped:
        period = period_of(moment, days[scope])
        needed[PeriodKey(scope, period.start)] = period
    await periods.make(connection, needed)
    return days


async def _insert(connection: Connection, received: Sequence[Received]) -> set[str]:
    """Inserts the events whose ids are new; the ids of those."""
    columns = zip(*(one.event for one in received), strict=True)
    literals = [
        _literal(map(_quoted, values) if type_ == "text" else values)
        for type_, values in zip(_TYPES.values(), columns, strict=True)
    ]
    rows = await connection.fetch(_INSERT, *literals, [one.digest for one in received])
    return {row[0] for row in rows}


def _literal(values: Iterable[object]) -> str:
    """An array in PostgreSQL's text form.

    Given a list, asyncpg asks of each value whether it is an array in turn, which took a third of
    all the time that Python spent on a batch.
    """
    return "{" + ",".join(["null" if value is None else str(value) for value in values]) + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


async def _quarantine(connection: Connection, known: Collection[Received]) -> int:
    """Puts aside those whose id was settled with other content; how many."""
    if not known:
        return 0
    rows = await connection.fetch(_DIGESTS, [one.event.event_id for one in known])
    digests = {row[0]: row[1] for row in rows}
    strange = [one for one in known if digests[one.event.event_id] != one.digest]
    if strange:
        await connection.execute(
            _QUARANTINE,
            [one.event.event_id for one in strange],
            [one.digest for one in strange],
            [one.body for one in strange],
        )
    return len(strange)


async def _charge_leases(
    connection: Connection, charges: Charges, moves: dict[PeriodKey, periods.Move]
) -> None:
    """Takes what events used out of what their leases hold, where those still hold it."""
    if not charges.leases:
        return
    ids = sorted({lease_id for lease_id, *_ in charges.leases})
    charged: list[tuple[str, int]] = []
    for row in await connection.fetch(_LOCK_LEASES, ids):
        lease = leases.stored(row)
        subject = lease.subject
        used = charges.leases.get(
            (lease.lease_id, subject.organization_id, subject.user_id, subject.api_key_id), 0
        )
        tokens = min(used, lease.outstanding)
        if tokens:
            charged.append((lease.lease_id, tokens))
            for key in lease.periods:
                moves[key].leased -= tokens
    if charged:
        await connection.execute(_CHARGE_LEASES, *map(list, zip(*charged, strict=True)))


async def _roll_up(connection: Connection, sql: str, sums: Mapping[RollupKey, Sums]) -> None:
    if not sums:
        return
    keys = sorted(sums)
    counts = [sums[key] for key in keys]
    await connection.execute(
        sql,
        *map(list, zip(*keys, strict=True)),
        [count.requests for count in counts],
        [count.failed_requests for count in counts],
        [count.prompt_tokens for count in counts],
        [count.completion_tokens for count in counts],
        [count.cached_tokens for count in counts],
        [count.cost_nanos for count in counts],
    )
