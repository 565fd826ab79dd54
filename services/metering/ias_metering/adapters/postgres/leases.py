"""Leases: every change takes the fence, then the lease, then the period rows, in that order."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ias_metering.adapters.postgres import periods
from ias_metering.adapters.postgres.transactions import share, transaction
from ias_metering.domain.budgets import Budget, scopes_of
from ias_metering.domain.leases import (
    Grant,
    LeaseState,
    LeaseTimes,
    Refusal,
    Renewal,
    StoredLease,
    Subject,
    decide,
    tightest,
)
from ias_runtime.errors import NotFound
from ias_runtime.postgres import Connection, Pool

SELECT = """
select lease_id::text, organization_id::text, user_id::text, api_key_id::text, state,
       granted, charged, returned, expire_at,
       organization_period, user_period, api_key_period
from metering.leases
"""
_INSERT = """
insert into metering.leases (lease_id, organization_id, user_id, api_key_id, holder, granted,
    acquired_at, expire_at, organization_period, user_period, api_key_period)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""
_RENEW = "update metering.leases set granted = granted + $2, expire_at = $3 where lease_id = $1"
_RELEASE = """
update metering.leases set state = 'released', ended_at = $3, returned = returned + $2
where lease_id = $1
"""
_DUE = """
   state = 'active' and expire_at < $1
or state = 'released' and charged + returned < granted and ended_at < $2
"""
_DUE_ORGANIZATIONS = f"""
select distinct organization_id::text from (
    select organization_id from metering.leases where {_DUE} limit $3
) due
"""  # noqa: S608 - constants only
_DUE_LEASES = f"""
{SELECT} where ({_DUE}) and organization_id = any($4::uuid[])
order by lease_id limit $3 for update skip locked
"""
_SWEEP = """
update metering.leases
set state = case state when 'active' then 'expired' else state end,
    ended_at = coalesce(ended_at, $2), returned = granted - charged
where lease_id = any($1::uuid[])
"""
# A late event of a lease that is forgotten charges what is spent, just as one of an ended lease.
_FORGET = """
delete from metering.leases where lease_id in (
    select lease_id from metering.leases
    where state <> 'active' and charged + returned = granted and ended_at < $1
    limit $2)
"""
_BATCH = 200


class PostgresLeases:
    """The `Leases` port."""

    def __init__(self, pool: Pool, times: LeaseTimes) -> None:
        self._pool = pool
        self._times = times

    @property
    def times(self) -> LeaseTimes:
        """How long leases hold."""
        return self._times

    async def acquire(
        self, subject: Subject, holder: str, need: int, want: int, now: datetime
    ) -> Grant | Refusal:
        """Takes between `need` and `want` tokens from all three scopes, or nothing."""

        async def work(connection: Connection) -> Grant | Refusal:
            scopes = scopes_of(subject.organization_id, subject.user_id, subject.api_key_id)
            await share(connection, [subject.organization_id])
            current = await periods.current(connection, scopes, now)
            budgets = await periods.lock(connection, current)
            granted = decide(budgets, need, want)
            if isinstance(granted, Refusal):
                return granted
            lease = StoredLease(
                lease_id=str(uuid.uuid4()),
                subject=subject,
                state=LeaseState.ACTIVE,
                granted=granted,
                charged=0,
                returned=0,
                expire_at=now + self._times.ttl,
                period_starts=(
                    budgets[0].period.start,
                    budgets[1].period.start,
                    budgets[2].period.start,
                ),
            )
            await _take(connection, lease, granted)
            await connection.execute(
                _INSERT,
                lease.lease_id,
                subject.organization_id,
                subject.user_id,
                subject.api_key_id,
                holder,
                granted,
                now,
                lease.expire_at,
                *lease.period_starts,
            )
            return _grant(lease, budgets, granted, want)

        return await transaction(self._pool, work)

    async def renew(self, lease_id: str, need: int, want: int, now: datetime) -> Renewal:
        """Prolongs a lease and takes more tokens. Raises NotFound when it has ended."""

        async def work(connection: Connection) -> Renewal:
            lease = await _locked(connection, lease_id)
            if lease is None or lease.state is not LeaseState.ACTIVE:
                raise NotFound("lease", lease_id)
            budgets = await periods.lock(connection, lease.periods)
            decision = decide(budgets, need, want)
            refusal = decision if isinstance(decision, Refusal) else None
            added = 0 if isinstance(decision, Refusal) else decision
            renewed = replace(
                lease,
                granted=lease.granted + added,
                expire_at=max(lease.expire_at, now + self._times.ttl),
            )
            await _take(connection, lease, added)
            await connection.execute(_RENEW, lease_id, added, renewed.expire_at)
            return Renewal(_grant(renewed, budgets, added, want), refusal)

        return await transaction(self._pool, work)

    async def release(self, lease_id: str, used: int, now: datetime) -> int:
        """Ends a lease and says how many tokens went back; 0 when it had ended or never was."""

        async def work(connection: Connection) -> int:
            lease = await _locked(connection, lease_id)
            if lease is None or lease.state is not LeaseState.ACTIVE:
                return 0
            # Not worth a wait for the disk: a release that a crash undoes is made up for by the
            # sweeper, and until then holds too much, never too little.
            await connection.execute("set local synchronous_commit = off")
            returned = lease.unused(used)
            await connection.execute(_RELEASE, lease_id, returned, now)
            if returned:
                await periods.lock(connection, lease.periods)
                await _take(connection, lease, -returned)
            return returned

        return await transaction(self._pool, work)

    async def sweep(self, now: datetime) -> int:
        """Gives back what leases hold that ended unsettled; forgets those long settled."""
        swept = 0
        while count := await transaction(self._pool, lambda c: self._sweep(c, now)):
            swept += count
        await self._pool.execute(_FORGET, now - 6 * self._times.event_grace, 10 * _BATCH)
        return swept

    async def _sweep(self, connection: Connection, now: datetime) -> int:
        due = (now - self._times.grace, now - self._times.event_grace, _BATCH)
        organizations = [row[0] for row in await connection.fetch(_DUE_ORGANIZATIONS, *due)]
        if not organizations:
            return 0
        await share(connection, organizations)
        leases = [stored(row) for row in await connection.fetch(_DUE_LEASES, *due, organizations)]
        moves = periods.moves()
        for lease in leases:
            for key in lease.periods:
                moves[key].leased -= lease.outstanding
        await connection.execute(_SWEEP, [lease.lease_id for lease in leases], now)
        await periods.lock(connection, moves)
        await periods.apply(connection, moves)
        return len(leases)


async def _locked(connection: Connection, lease_id: str) -> StoredLease | None:
    organization_id = await connection.fetchval(
        "select organization_id::text from metering.leases where lease_id = $1", lease_id
    )
    if organization_id is None:
        return None
    await share(connection, [organization_id])
    row = await connection.fetchrow(f"{SELECT} where lease_id = $1 for update", lease_id)
    return None if row is None else stored(row)


async def _take(connection: Connection, lease: StoredLease, tokens: int) -> None:
    await periods.apply(connection, {key: periods.Move(leased=tokens) for key in lease.periods})


def stored(row: Any) -> StoredLease:
    """A row of SELECT."""
    return StoredLease(
        lease_id=row[0],
        subject=Subject(row[1], row[2], row[3]),
        state=LeaseState(row[4]),
        granted=row[5],
        charged=row[6],
        returned=row[7],
        expire_at=row[8],
        period_starts=(row[9], row[10], row[11]),
    )


def _grant(lease: StoredLease, budgets: Sequence[Budget], added: int, want: int) -> Grant:
    return Grant(
        lease_id=lease.lease_id,
        granted_tokens=lease.granted,
        expire_at=lease.expire_at,
        period_end=min(budget.period.end for budget in budgets),
        budget=tightest(budgets, added),
        scarce=added < want,
    )
