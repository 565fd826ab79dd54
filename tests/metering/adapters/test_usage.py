"""Usage queries against rollups on a real PostgreSQL."""

from datetime import timedelta

from metering_support import NOW, Ledger, event, new_subject

from ias_metering.domain.leases import Subject
from ias_metering.domain.usage import Dimension, Span, UsageQuery, UsageRow


def asking(subject: Subject, *dimensions: Dimension, **changes: object) -> UsageQuery:
    fields: dict[str, object] = {
        "organization_id": subject.organization_id,
        "dimensions": tuple(dimensions),
        "span": Span(NOW.replace(day=1, hour=0, minute=0), NOW.replace(hour=23, minute=0)),
        "model": "",
        "user_id": "",
        "api_key_id": "",
        "rows": 100,
        "after": None,
    }
    return UsageQuery(**(fields | changes))  # type: ignore[arg-type]


def brief(rows: list[UsageRow]) -> list[tuple[tuple[str, ...], int, int]]:
    return [(row.group, row.requests, row.prompt_tokens + row.completion_tokens) for row in rows]


async def spend_a_little(ledger: Ledger, subject: Subject) -> Subject:
    second = new_subject(subject.organization_id)
    await ledger.settle(
        event(subject, 10),
        event(subject, 20, at=NOW - timedelta(days=1)),
        event(subject, 40, model="other/model", status=2),
        event(second, 80, at=NOW.replace(hour=3)),
        event(new_subject(), 10_000),
    )
    return second


async def test_sums_are_grouped_as_asked_and_know_no_other_organisation(
    ledger: Ledger, subject: Subject
) -> None:
    await spend_a_little(ledger, subject)
    assert brief(await ledger.usage.query(asking(subject))) == [((), 4, 150)]
    assert brief(await ledger.usage.query(asking(subject, Dimension.DAY, Dimension.MODEL))) == [
        (("2026-11-22", "mock-gpt"), 1, 20),
        (("2026-11-23", "mock-gpt"), 2, 90),
        (("2026-11-23", "other/model"), 1, 40),
    ]
    by_model = await ledger.usage.query(asking(subject, Dimension.MODEL))
    assert [row.failed_requests for row in by_model] == [0, 1]


async def test_filters_narrow(ledger: Ledger, subject: Subject) -> None:
    second = await spend_a_little(ledger, subject)
    for changes, tokens in (
        ({"model": "other/model"}, 40),
        ({"user_id": second.user_id}, 80),
        ({"api_key_id": subject.api_key_id}, 70),
    ):
        assert brief(await ledger.usage.query(asking(subject, **changes)))[0][2] == tokens
    assert await ledger.usage.query(asking(subject, model="none")) == []


async def test_a_span_that_begins_and_ends_within_days_counts_each_hour_once(
    ledger: Ledger, subject: Subject
) -> None:
    for hours in range(72):
        await ledger.settle(event(subject, 1, at=NOW - timedelta(hours=hours)))
    for first, last in ((70, 0), (50, 1), (5, 3), (24, 0)):
        hour = NOW.replace(minute=0)
        span = Span(hour - timedelta(hours=first), hour - timedelta(hours=last))
        rows = await ledger.usage.query(asking(subject, span=span))
        assert brief(rows) == [((), first - last, first - last)]


async def test_pages_follow_each_other_without_gap_or_overlap(
    ledger: Ledger, subject: Subject
) -> None:
    for n in range(7):
        await ledger.settle(
            event(new_subject(subject.organization_id), 1 + n, at=NOW - timedelta(days=n % 3))
        )
    dimensions = (Dimension.DAY, Dimension.USER, Dimension.KEY, Dimension.ORGANIZATION)
    whole = await ledger.usage.query(asking(subject, *dimensions))
    paged: list[UsageRow] = []
    while len(paged) < len(whole):
        after = paged[-1].group if paged else None
        paged += await ledger.usage.query(asking(subject, *dimensions, rows=2, after=after))
    assert paged == whole
    assert len(whole) == 7
