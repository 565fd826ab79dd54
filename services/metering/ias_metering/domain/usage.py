"""Usage queries: sums over a time span, grouped as asked."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum

from ias_runtime.errors import InvalidField

DEFAULT_SPAN = timedelta(days=30)
MAX_SPAN = timedelta(days=5 * 366)
MAX_ROWS = 10_000
DEFAULT_ROWS = 1_000


class Dimension(IntEnum):
    """By what usage is grouped; the numbers of ias.metering.v1.UsageDimension."""

    DAY = 1
    MODEL = 2
    USER = 3
    KEY = 4
    ORGANIZATION = 5


@dataclass(frozen=True, slots=True)
class Span:
    """Whole hours in UTC: start ≤ t < end."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """What to sum. An empty filter filters nothing."""

    organization_id: str | None
    """None means all."""
    dimensions: tuple[Dimension, ...]
    """Each once, in ascending order, which is also the order of the rows."""
    span: Span
    model: str
    user_id: str
    api_key_id: str
    rows: int
    after: tuple[str, ...] | None
    """The group, as `UsageRow.group`, that the page begins after; None for the first page."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Sums of one group."""

    group: tuple[str, ...]
    """One text for each dimension: an id, the model's name, or the day as YYYY-MM-DD."""
    requests: int
    failed_requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_nanos: int


def span_of(start: datetime | None, end: datetime | None, now: datetime) -> Span:
    """The hours that cover what was asked for. Raises InvalidField when they make no span."""
    upper = _hour(end or now)
    if upper != (end or now):
        upper += timedelta(hours=1)
    lower = _hour(start if start is not None else upper - DEFAULT_SPAN)
    if lower > upper:
        raise InvalidField("from", "must not be after `to`")
    if upper - lower > MAX_SPAN:
        raise InvalidField("from", "at most 5 years before `to`")
    return Span(lower, upper)


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
