"""UsageService."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime

from ias.metering.v1 import usage_pb2 as pb2

from ias_metering.domain.ports import Usage
from ias_metering.domain.usage import (
    DEFAULT_ROWS,
    MAX_ROWS,
    Dimension,
    Span,
    UsageQuery,
    UsageRow,
    span_of,
)
from ias_runtime import fields
from ias_runtime.caller import Caller
from ias_runtime.errors import InvalidField
from ias_runtime.rpc import Call

_MAX_MODEL = 512
_FIELDS = {
    Dimension.MODEL: "model",
    Dimension.USER: "user_id",
    Dimension.KEY: "api_key_id",
    Dimension.ORGANIZATION: "organization_id",
}


class UsageServicer:
    """Answers questions about usage."""

    def __init__(self, usage: Usage, clock: Callable[[], datetime]) -> None:
        self._usage = usage
        self._clock = clock

    async def QueryUsage(
        self, request: pb2.QueryUsageRequest, call: Call
    ) -> pb2.QueryUsageResponse:
        """A page of sums."""
        query = to_query(request, call.caller, self._clock())
        # One more than the page holds, to know whether there is a next one.
        rows = await self._usage.query(replace(query, rows=query.rows + 1))
        page = rows[: query.rows]
        return pb2.QueryUsageResponse(
            rows=[from_row(query.dimensions, row) for row in page],
            next_page_token=to_page_token(query, page[-1]) if len(rows) > len(page) else "",
        )


def to_query(request: pb2.QueryUsageRequest, caller: Caller, now: datetime) -> UsageQuery:
    """What is asked, checked."""
    organization_id = fields.uuid_text("organization_id", request.organization_id, required=False)
    dimensions = _dimensions(request)
    span = span_of(_moment(request, "from"), _moment(request, "to"), now)
    after = None
    if request.page_token:
        # A first page without bounds fixed them: later pages must sum the same hours.
        span, after = _position(request.page_token, dimensions)
    return UsageQuery(
        organization_id=caller.organization_filter(organization_id),
        dimensions=dimensions,
        span=span,
        model=fields.text("model", request.model, max_length=_MAX_MODEL, required=False),
        user_id=fields.uuid_text("user_id", request.user_id, required=False),
        api_key_id=fields.uuid_text("api_key_id", request.api_key_id, required=False),
        rows=fields.page_size(request.page_size, default=DEFAULT_ROWS, maximum=MAX_ROWS),
        after=after,
    )


def _dimensions(request: pb2.QueryUsageRequest) -> tuple[Dimension, ...]:
    try:
        return tuple(sorted({Dimension(number) for number in request.group_by}))
    except ValueError:
        raise InvalidField("group_by", "not a dimension") from None


def _moment(request: pb2.QueryUsageRequest, name: str) -> datetime | None:
    if not request.HasField(name):  # type: ignore[arg-type]
        return None
    return fields.moment(name, getattr(request, name))


def to_page_token(query: UsageQuery, last: UsageRow) -> str:
    """Where the next page begins, and the hours that all pages sum."""
    start, end = (int(moment.timestamp()) for moment in (query.span.start, query.span.end))
    return fields.to_page_token(json.dumps([start, end, *last.group]))


def _position(token: str, dimensions: tuple[Dimension, ...]) -> tuple[Span, tuple[str, ...]]:
    try:
        start, end, *group = json.loads(fields.page_token(token))
        first, last = (datetime.fromtimestamp(stamp, UTC) for stamp in (start, end))
        span = span_of(first, last, last)
        for dimension, text in zip(dimensions, group, strict=True):
            _check_group(dimension, text)
    except (ValueError, TypeError, OverflowError):
        raise InvalidField("page_token", "not a token that this query gave") from None
    return span, tuple(group)


def _check_group(dimension: Dimension, text: str) -> None:
    if dimension is Dimension.DAY:
        date.fromisoformat(text)
    elif dimension is Dimension.MODEL:
        fields.text("page_token", text, max_length=_MAX_MODEL)
    else:
        fields.uuid_text("page_token", text)


def from_row(dimensions: tuple[Dimension, ...], row: UsageRow) -> pb2.UsageRow:
    """As the contract shows it."""
    shown = pb2.UsageRow(
        requests=row.requests,
        failed_requests=row.failed_requests,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cached_tokens=row.cached_tokens,
        total_tokens=row.prompt_tokens + row.completion_tokens,
        cost_nanos=row.cost_nanos,
    )
    for dimension, text in zip(dimensions, row.group, strict=True):
        if dimension is Dimension.DAY:
            midnight = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
            shown.day.FromDatetime(midnight)
        else:
            setattr(shown, _FIELDS[dimension], text)
    return shown
