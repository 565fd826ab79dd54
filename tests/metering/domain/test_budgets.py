"""Periods: each moment belongs to exactly one."""

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ias_metering.domain.budgets import ScopeKind, period_of, scope_for
from ias_runtime.caller import Caller, CallerKind, Role
from ias_runtime.errors import InvalidField, NotFound


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "reset_day", "start", "end"),
    [
        ("2026-11-23T10:00", 1, "2026-11-01", "2026-12-01"),
        ("2026-12-31T23:59:59.999999", 1, "2026-12-01", "2027-01-01"),
        ("2027-01-01T00:00", 1, "2027-01-01", "2027-02-01"),
        ("2027-01-14T23:59", 15, "2026-12-15", "2027-01-15"),
        ("2027-01-15T00:00", 15, "2027-01-15", "2027-02-15"),
        ("2028-02-29T12:00", 28, "2028-02-28", "2028-03-28"),
        ("2028-02-29T12:00", 1, "2028-02-01", "2028-03-01"),
        ("2027-02-28T00:00", 28, "2027-02-28", "2027-03-28"),
        ("2027-03-01T00:00", 28, "2027-02-28", "2027-03-28"),
    ],
)
def test_periods_begin_at_midnight_of_the_reset_day(
    moment: str, reset_day: int, start: str, end: str
) -> None:
    period = period_of(day(moment), reset_day)
    assert (period.start, period.end) == (day(start), day(end))


def test_a_period_is_told_in_utc_whatever_zone_the_moment_comes_in() -> None:
    tokyo = datetime(2026, 12, 1, 8, tzinfo=timezone(timedelta(hours=9)))
    assert period_of(tokyo, 1).start == day("2026-11-01")


@given(
    st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2100, 1, 1)),
    st.integers(1, 28),
)
def test_periods_hold_their_moments_and_leave_no_gap(moment: datetime, reset_day: int) -> None:
    moment = moment.replace(tzinfo=UTC)
    period = period_of(moment, reset_day)
    assert period.start <= moment < period.end
    assert period_of(period.end, reset_day).start == period.end
    assert period_of(period.end - timedelta(microseconds=1), reset_day) == period


OWN, OTHER, USER, KEY = (str(uuid.uuid4()) for _ in range(4))
ADMIN = Caller(kind=CallerKind.SESSION, role=Role.ORG_ADMIN, organization_id=OWN)
ROOT = Caller(kind=CallerKind.SESSION, role=Role.SYSTEM_ADMIN)


def test_a_user_is_looked_for_in_the_callers_own_organisation() -> None:
    scope = scope_for(ADMIN, "", USER, "")
    assert (scope.organization_id, scope.kind, scope.scope_id) == (OWN, ScopeKind.USER, USER)


def test_a_system_admin_must_say_where_a_user_is() -> None:
    with pytest.raises(InvalidField) as caught:
        scope_for(ROOT, "", USER, "")
    assert caught.value.field == "scope.organization_id"
    assert scope_for(ROOT, OTHER, "", KEY).organization_id == OTHER


def test_another_organisation_does_not_exist() -> None:
    with pytest.raises(NotFound):
        scope_for(ADMIN, OTHER, "", "")


def test_a_scope_is_one_thing() -> None:
    with pytest.raises(InvalidField):
        scope_for(ADMIN, "", USER, KEY)
