"""Usage queries, from rollups alone: whole days from the daily ones, the rest from the hourly."""

import uuid
from datetime import UTC, date, datetime, timedelta

from ias_metering.domain.usage import Dimension, Span, UsageQuery, UsageRow
from ias_runtime.postgres import Pool

# The order of dimensions is the order of their numbers. Ids sort as text, like UUIDs do.
_COLUMNS = {
    Dimension.DAY: "(started_at at time zone 'UTC')::date",
    Dimension.MODEL: 'model collate "C"',
    Dimension.USER: "user_id",
    Dimension.KEY: "api_key_id",
    Dimension.ORGANIZATION: "organization_id",
}
_TYPES = {
    Dimension.DAY: "date",
    Dimension.MODEL: "text",
    Dimension.USER: "uuid",
    Dimension.KEY: "uuid",
    Dimension.ORGANIZATION: "uuid",
}
_SOURCE = """
select * from metering.usage_{table}
where started_at >= ${first} and started_at < ${last}
  and ($1::uuid is null or organization_id = $1)
  and ($2::text = '' or model = $2)
  and ($3::uuid is null or user_id = $3)
  and ($4::uuid is null or api_key_id = $4)
"""
_SUMS = """
sum(requests)::bigint, sum(failed_requests)::bigint, sum(prompt_tokens)::bigint,
sum(completion_tokens)::bigint, sum(cached_tokens)::bigint, sum(cost_nanos)::bigint
"""


class PostgresUsage:
    """The `Usage` port."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def query(self, query: UsageQuery) -> list[UsageRow]:
        """At most `query.rows` rows, in the order of the dimensions."""
        parameters: list[object] = [
            query.organization_id,
            query.model,
            query.user_id or None,
            query.api_key_id or None,
        ]
        sources = []
        for table, span in _parts(query.span):
            sources.append(
                _SOURCE.format(table=table, first=len(parameters) + 1, last=len(parameters) + 2)
            )
            parameters += [span.start, span.end]
        columns = [_COLUMNS[dimension] for dimension in query.dimensions]
        after = ""
        if query.after is not None and columns:
            places = []
            for dimension, text in zip(query.dimensions, query.after, strict=True):
                parameters.append(_value(dimension, text))
                places.append(f"${len(parameters)}::{_TYPES[dimension]}")
            after = f"where ({', '.join(columns)}) > ({', '.join(places)})"
        parameters.append(query.rows)
        listed = ", ".join(columns)
        grouping = f"group by {listed} order by {listed}" if columns else "having count(*) > 0"
        sql = f"""
            select {listed + "," if listed else ""} {_SUMS}
            from ({" union all ".join(sources)}) usage {after}
            {grouping} limit ${len(parameters)}
        """  # noqa: S608 - built from constants; values are parameters
        width = len(columns)
        return [
            UsageRow(tuple(map(str, row[:width])), *row[width:])
            for row in map(tuple, await self._pool.fetch(sql, *parameters))
        ]


def _parts(span: Span) -> list[tuple[str, Span]]:
    """The rollup tables that make up a span, each hour once."""
    first = _midnight(span.start)
    if first < span.start:
        first += timedelta(days=1)
    last = _midnight(span.end)
    if first >= last:
        return [("hourly", span)]
    return [
        ("hourly", Span(span.start, first)),
        ("daily", Span(first, last)),
        ("hourly", Span(last, span.end)),
    ]


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _value(dimension: Dimension, text: str) -> object:
    if dimension is Dimension.DAY:
        return date.fromisoformat(text)
    return text if dimension is Dimension.MODEL else uuid.UUID(text)
