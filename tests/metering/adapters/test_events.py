"""Settling on a real PostgreSQL: at-least-once in, exactly-once out."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

from metering_support import NOW, Ledger, event, new_subject, received, scopes

from ias_metering.domain.leases import Subject


async def test_each_scope_is_charged_once_however_often_an_event_comes(
    ledger: Ledger, subject: Subject
) -> None:
    one = event(subject, 10)
    assert await ledger.settle(one, one) == (1, 1, 0)
    assert await ledger.settle(one) == (0, 1, 0)
    for scope in scopes(subject):
        assert await ledger.stand(scope) == (10, 0)


async def test_the_same_id_with_other_content_goes_to_quarantine_and_the_first_stands(
    ledger: Ledger, subject: Subject
) -> None:
    first = event(subject, 10)
    forged = event(subject, 999, at=NOW - timedelta(days=40), event_id=first.event_id)
    again = event(subject, 5, event_id=first.event_id)
    assert await ledger.settle(first, again) == (1, 0, 1)
    assert await ledger.settle(forged, first) == (0, 1, 1)
    assert await ledger.settle(forged) == (0, 0, 1)
    assert await ledger.stand(scopes(subject)[0]) == (10, 0)
    kept = "select count(*) from metering.usage_quarantine where event_id = $1"
    assert await ledger.pool.fetchval(kept, first.event_id) == 2


async def test_a_lease_pays_only_for_its_own_subject(ledger: Ledger, subject: Subject) -> None:
    lease = await ledger.leases.acquire(subject, "test", 100, 100, NOW)
    stranger = new_subject()
    await ledger.settle(event(stranger, 60, lease_id=lease.lease_id))
    assert await ledger.stand(scopes(subject)[0]) == (0, 100)
    assert await ledger.stand(scopes(stranger)[0]) == (60, 0)


async def test_texts_are_kept_as_they_came(ledger: Ledger, subject: Subject) -> None:
    odd = "{},\"\\ 'NULL\t\n\\x é 漢字 😀"
    for text in (odd, "null", '"', "\\", "a,b"):
        one = event(subject, 1, model=text, request_id=text, operation=text)
        assert await ledger.settle(one) == (1, 0, 0)
        row = await ledger.pool.fetchrow(
            "select model, request_id, operation, lease_id from metering.usage_events"
            " where event_id = $1",
            one.event_id,
        )
        assert tuple(row) == (text, text, text, None)


async def test_an_event_outside_the_months_made_ahead_is_kept_too(
    ledger: Ledger, subject: Subject
) -> None:
    long_ago = datetime(2021, 2, 28, tzinfo=UTC)
    assert await ledger.settle(event(subject, 3, at=long_ago)) == (1, 0, 0)
    assert await ledger.stand(scopes(subject)[0], long_ago) == (3, 0)


async def test_partitions_are_made_ahead_by_several_replicas_at_once(ledger: Ledger) -> None:
    sql = "select metering.ensure_partitions($1)"
    future = datetime(2031, 12, 31, tzinfo=UTC)
    await asyncio.gather(*(ledger.pool.execute(sql, future) for _ in range(5)))
    assert await ledger.pool.fetchval("select to_regclass('metering.usage_events_203202')")


async def test_overlapping_batches_shuffled_and_at_once_charge_each_event_once(
    ledger: Ledger,
) -> None:
    organization = new_subject()
    keys = [new_subject(organization.organization_id) for _ in range(5)]
    others = [new_subject() for _ in range(3)]
    events = [event(random.choice(keys + others), random.randint(1, 50)) for _ in range(200)]
    deliveries = events * 5
    random.shuffle(deliveries)
    batches = [deliveries[i : i + 40] for i in range(0, len(deliveries), 40)]
    done = await asyncio.gather(*(ledger.events.settle(received(*batch), NOW) for batch in batches))
    assert sum(one.settled for one in done) == len(events)
    assert sum(one.quarantined for one in done) == 0
    for who in keys + others:
        mine = [e for e in events if e.api_key_id == who.api_key_id]
        spent = sum(e.prompt_tokens + e.completion_tokens for e in mine)
        assert (await ledger.stand(scopes(who)[2]))[0] == spent


async def test_settling_leasing_and_changing_periods_at_once_never_drifts(
    ledger: Ledger, subject: Subject
) -> None:
    from ias_metering.domain.budgets import BudgetChange
    from ias_runtime.caller import SYSTEM

    organization, *_ = scopes(subject)

    async def spend(n: int) -> None:
        lease = await ledger.leases.acquire(subject, "test", 10, 20, NOW)
        await ledger.settle(
            event(subject, 10, lease_id=lease.lease_id, at=NOW - timedelta(days=n % 15))
        )
        await ledger.leases.release(lease.lease_id, 10, NOW)

    async def change(n: int) -> None:
        await ledger.budgets.update(SYSTEM, organization, BudgetChange(reset_day=1 + n % 28), NOW)

    await asyncio.gather(*(spend(n) for n in range(60)), *(change(7 * n) for n in range(15)))
    budget = await ledger.budgets.get(organization, NOW)
    rolled_up = await ledger.pool.fetchval(
        "select sum(prompt_tokens + completion_tokens) from metering.usage_daily"
        " where organization_id = $1 and started_at >= $2",
        subject.organization_id,
        budget.period.start,
    )
    assert (budget.spent, budget.leased) == (rolled_up, 0)
    assert await ledger.stand(scopes(subject)[2]) == (600, 0)
