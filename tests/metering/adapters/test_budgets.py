"""Budgets on a real PostgreSQL."""

from datetime import UTC, datetime, timedelta

from metering_support import NOW, Ledger, event, scopes

from ias_metering.domain.budgets import BudgetChange
from ias_metering.domain.leases import Grant, Refusal, Subject
from ias_runtime.caller import Caller, CallerKind, Role


async def test_a_scope_that_nobody_touched_is_unlimited_and_asking_leaves_no_trace(
    ledger: Ledger, subject: Subject
) -> None:
    budget = await ledger.budgets.get(scopes(subject)[1], NOW)
    assert (budget.limit_tokens, budget.reset_day, budget.spent, budget.leased) == (None, 1, 0, 0)
    assert budget.remaining_tokens is None
    count = "select count(*) from metering.budget_periods where organization_id = $1"
    assert await ledger.pool.fetchval(count, subject.organization_id) == 0


async def test_a_limit_set_in_mid_month_knows_what_was_spent(
    ledger: Ledger, subject: Subject
) -> None:
    organization, *_ = scopes(subject)
    await ledger.settle(event(subject, 90))
    await ledger.limit(organization, 100)
    refusal = await ledger.leases.acquire(subject, "test", 11, 11, NOW)
    assert isinstance(refusal, Refusal)
    assert refusal.spent_tokens == 90
    await ledger.limit(organization, 200)
    assert isinstance(await ledger.leases.acquire(subject, "test", 11, 11, NOW), Grant)


async def test_a_limit_lowered_below_what_is_spent_leaves_nothing_and_breaks_nothing(
    ledger: Ledger, subject: Subject
) -> None:
    organization, *_ = scopes(subject)
    lease = await ledger.leases.acquire(subject, "test", 50, 50, NOW)
    assert isinstance(lease, Grant)
    await ledger.limit(organization, 20)
    assert (await ledger.budgets.get(organization, NOW)).remaining_tokens == 0
    await ledger.settle(event(subject, 50, lease_id=lease.lease_id))
    assert await ledger.stand(organization) == (50, 0)


async def test_a_new_period_begins_unspent_and_with_the_limit(
    ledger: Ledger, subject: Subject
) -> None:
    organization, *_ = scopes(subject)
    await ledger.limit(organization, 100)
    await ledger.settle(event(subject, 100))
    assert isinstance(await ledger.leases.acquire(subject, "test", 1, 1, NOW), Refusal)
    december = datetime(2026, 12, 1, tzinfo=UTC)
    grant = await ledger.leases.acquire(subject, "test", 1, 100, december)
    assert isinstance(grant, Grant)
    assert grant.granted_tokens == 100
    assert grant.period_end == datetime(2027, 1, 1, tzinfo=UTC)


async def test_a_token_is_charged_to_the_period_in_which_its_request_began(
    ledger: Ledger, subject: Subject
) -> None:
    organization, *_ = scopes(subject)
    before = datetime(2026, 11, 30, 23, 59, 59, 999999, tzinfo=UTC)
    after = datetime(2026, 12, 1, tzinfo=UTC)
    lease = await ledger.leases.acquire(subject, "test", 100, 100, before)
    assert isinstance(lease, Grant)
    await ledger.settle(
        event(subject, 30, lease_id=lease.lease_id, at=before),
        event(subject, 5, lease_id=lease.lease_id, at=after),
    )
    assert await ledger.stand(organization, before) == (30, 65)
    assert await ledger.stand(organization, after) == (5, 0)


async def test_another_reset_day_recomputes_what_is_spent_and_takes_the_leases_along(
    ledger: Ledger, subject: Subject
) -> None:
    organization, user, _ = scopes(subject)
    lease = await ledger.leases.acquire(subject, "test", 40, 40, NOW)
    assert isinstance(lease, Grant)
    for day, tokens in ((5, 1), (9, 10), (10, 100), (22, 1000)):
        await ledger.settle(event(subject, tokens, at=NOW.replace(day=day)))
    assert await ledger.stand(organization) == (1111, 40)
    for reset_day, spent in ((10, 1100), (1, 1111), (25, 1111), (10, 1100)):
        change = BudgetChange(reset_day=reset_day)
        budget = await ledger.budgets.update(SYSTEM_ADMIN, organization, change, NOW)
        assert (budget.spent, budget.leased) == (spent, 40)
    # A late event of before the new period does not count for it; its lease is paid off.
    await ledger.settle(event(subject, 7, lease_id=lease.lease_id, at=NOW.replace(day=9)))
    assert await ledger.stand(organization) == (1100, 33)
    assert await ledger.stand(organization, NOW.replace(day=9)) == (18, 0)
    assert await ledger.stand(user) == (1118, 33)
    await ledger.leases.release(lease.lease_id, 7, NOW)
    assert await ledger.stand(organization) == (1100, 0)


SYSTEM_ADMIN = Caller(kind=CallerKind.SESSION, role=Role.SYSTEM_ADMIN, request_id="r-1")


async def test_a_change_is_audited_with_before_and_after(ledger: Ledger, subject: Subject) -> None:
    organization, *_ = scopes(subject)
    await ledger.budgets.update(SYSTEM_ADMIN, organization, BudgetChange(True, 5, 3), NOW)
    await ledger.budgets.update(SYSTEM_ADMIN, organization, BudgetChange(True, None), NOW)
    rows = await ledger.pool.fetch(
        "select action, resource_id, before, after from audit.entries where organization_id = $1"
        " order by sequence",
        subject.organization_id,
    )
    assert [row["action"] for row in rows] == ["budget.update"] * 2
    assert rows[0]["before"] == {"limit_tokens": None, "reset_day": 1}
    assert rows[0]["after"] == rows[1]["before"] == {"limit_tokens": 5, "reset_day": 3}
    assert rows[1]["after"] == {"limit_tokens": None, "reset_day": 3}


async def test_a_change_that_can_not_be_audited_is_not_made(
    ledger: Ledger, subject: Subject
) -> None:
    organization, *_ = scopes(subject)
    broken = Caller(kind=CallerKind.SESSION, role=Role.SYSTEM_ADMIN, user_id="not a uuid")
    try:
        await ledger.budgets.update(broken, organization, BudgetChange(True, 5), NOW)
    except Exception:
        budget = await ledger.budgets.get(organization, NOW + timedelta(0))
        assert budget.limit_tokens is None
    else:
        raise AssertionError("audited a caller without an id")
