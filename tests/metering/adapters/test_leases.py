"""Leases on a real PostgreSQL: never overspent, whoever asks at once."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from metering_support import NOW, Ledger, event, new_subject, scopes

from ias_metering.domain.budgets import ScopeKind
from ias_metering.domain.leases import Grant, Refusal, Subject
from ias_runtime.errors import NotFound


async def acquire(ledger: Ledger, subject: Subject, need: int, want: int | None = None) -> Grant:
    outcome = await ledger.leases.acquire(subject, "test", need, want or need, NOW)
    assert isinstance(outcome, Grant)
    return outcome


async def refused(ledger: Ledger, subject: Subject, need: int) -> Refusal:
    outcome = await ledger.leases.acquire(subject, "test", need, need, NOW)
    assert isinstance(outcome, Refusal)
    return outcome


async def test_200_at_once_on_a_budget_for_10_get_exactly_10(
    ledger: Ledger, subject: Subject
) -> None:
    organization, *_ = scopes(subject)
    await ledger.limit(organization, 100)
    subjects = [new_subject(subject.organization_id) for _ in range(200)]
    outcomes = await asyncio.gather(
        *(ledger.leases.acquire(one, "test", 10, 10, NOW) for one in subjects)
    )
    assert sum(isinstance(outcome, Grant) for outcome in outcomes) == 10
    assert await ledger.stand(organization) == (0, 100)


async def test_without_limits_what_is_wanted_is_granted(ledger: Ledger, subject: Subject) -> None:
    grant = await acquire(ledger, subject, 1, 5000)
    assert (grant.granted_tokens, grant.scarce, grant.budget) == (5000, False, None)


async def test_near_the_limit_the_rest_is_granted_and_said_to_be_scarce(
    ledger: Ledger, subject: Subject
) -> None:
    organization, user, key = scopes(subject)
    await ledger.limit(organization, 1000)
    await ledger.limit(user, 70)
    grant = await acquire(ledger, subject, 10, 500)
    assert (grant.granted_tokens, grant.scarce) == (70, True)
    assert grant.budget is not None
    assert (grant.budget.scope, grant.budget.remaining_tokens) == (ScopeKind.USER, 0)
    assert await ledger.stand(key) == (0, 70)


async def test_a_refusal_takes_nothing_and_names_the_first_scope_without_room(
    ledger: Ledger, subject: Subject
) -> None:
    organization, user, key = scopes(subject)
    await ledger.limit(organization, 1000)
    await ledger.limit(user, 20)
    await ledger.limit(key, 10)
    refusal = await refused(ledger, subject, 30)
    assert (refusal.scope, refusal.limit_tokens, refusal.may_free_up) == (ScopeKind.USER, 20, False)
    for scope in (organization, user, key):
        assert await ledger.stand(scope) == (0, 0)


async def test_a_refusal_says_whether_only_leases_stand_in_the_way(
    ledger: Ledger, subject: Subject
) -> None:
    await ledger.limit(scopes(subject)[0], 100)
    await acquire(ledger, subject, 90)
    assert (await refused(ledger, subject, 20)).may_free_up
    await ledger.settle(event(subject, 85))
    assert not (await refused(ledger, subject, 20)).may_free_up


async def test_another_organisations_budget_for_the_same_user_does_not_apply(
    ledger: Ledger, subject: Subject
) -> None:
    elsewhere = Subject(str(uuid.uuid4()), subject.user_id, subject.api_key_id)
    await ledger.limit(scopes(elsewhere)[1], 0)
    assert (await acquire(ledger, subject, 10)).granted_tokens == 10


async def test_what_was_used_stays_taken_until_its_events_arrive(
    ledger: Ledger, subject: Subject
) -> None:
    organization, *_ = scopes(subject)
    lease = await acquire(ledger, subject, 100)
    assert await ledger.leases.release(lease.lease_id, 30, NOW) == 70
    assert await ledger.stand(organization) == (0, 30)
    await ledger.settle(event(subject, 30, lease_id=lease.lease_id))
    assert await ledger.stand(organization) == (30, 0)
    assert await ledger.leases.release(lease.lease_id, 0, NOW) == 0


async def test_events_before_the_release_are_not_kept_twice(
    ledger: Ledger, subject: Subject
) -> None:
    lease = await acquire(ledger, subject, 100)
    await ledger.settle(event(subject, 30, lease_id=lease.lease_id))
    assert await ledger.leases.release(lease.lease_id, 30, NOW) == 70
    assert await ledger.stand(scopes(subject)[0]) == (30, 0)


async def test_events_beyond_the_grant_are_charged_and_take_no_more_than_the_lease_has(
    ledger: Ledger, subject: Subject
) -> None:
    lease = await acquire(ledger, subject, 10)
    await ledger.settle(event(subject, 25, lease_id=lease.lease_id))
    assert await ledger.stand(scopes(subject)[2]) == (25, 0)
    assert await ledger.leases.release(lease.lease_id, 25, NOW) == 0


async def test_a_renewal_adds_and_prolongs_and_one_refused_still_prolongs(
    ledger: Ledger, subject: Subject
) -> None:
    await ledger.limit(scopes(subject)[0], 100)
    lease = await acquire(ledger, subject, 60)
    later = NOW + timedelta(seconds=20)
    more = await ledger.leases.renew(lease.lease_id, 10, 500, later)
    assert (more.grant.granted_tokens, more.refusal, more.grant.scarce) == (100, None, True)
    assert more.grant.expire_at == later + ledger.leases.times.ttl
    none = await ledger.leases.renew(lease.lease_id, 1, 1, later)
    assert none.refusal is not None
    assert none.grant.granted_tokens == 100


async def test_an_ended_lease_can_not_be_renewed(ledger: Ledger, subject: Subject) -> None:
    lease = await acquire(ledger, subject, 10)
    await ledger.leases.release(lease.lease_id, 0, NOW)
    with pytest.raises(NotFound):
        await ledger.leases.renew(lease.lease_id, 1, 1, NOW)
    with pytest.raises(NotFound):
        await ledger.leases.renew(str(uuid.uuid4()), 1, 1, NOW)


async def test_a_dead_holders_lease_goes_back_after_the_grace_and_its_late_event_still_charges(
    ledger: Ledger, subject: Subject
) -> None:
    organization, *_ = scopes(subject)
    lease = await acquire(ledger, subject, 100)
    await ledger.settle(event(subject, 40, lease_id=lease.lease_id))
    times = ledger.leases.times
    await ledger.leases.sweep(NOW + times.ttl + times.grace)
    assert await ledger.stand(organization) == (40, 60)
    await ledger.leases.sweep(NOW + times.ttl + times.grace + timedelta(seconds=1))
    assert await ledger.stand(organization) == (40, 0)
    await ledger.settle(event(subject, 25, lease_id=lease.lease_id))
    assert await ledger.stand(organization) == (65, 0)


async def test_a_released_lease_whose_events_never_come_goes_back_at_last(
    ledger: Ledger, subject: Subject
) -> None:
    lease = await acquire(ledger, subject, 100)
    await ledger.leases.release(lease.lease_id, 100, NOW)
    await ledger.leases.sweep(NOW + ledger.leases.times.event_grace)
    assert await ledger.stand(scopes(subject)[0]) == (0, 100)
    await ledger.leases.sweep(NOW + ledger.leases.times.event_grace + timedelta(seconds=1))
    assert await ledger.stand(scopes(subject)[0]) == (0, 0)


async def test_several_sweepers_at_once_give_each_lease_back_once(
    ledger: Ledger, subject: Subject
) -> None:
    for _ in range(10):
        await acquire(ledger, subject, 10)
    late = NOW + timedelta(minutes=5)
    await asyncio.gather(*(ledger.leases.sweep(late) for _ in range(4)))
    assert await ledger.stand(scopes(subject)[0]) == (0, 0)
