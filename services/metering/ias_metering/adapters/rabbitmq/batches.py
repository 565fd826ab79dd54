"""Reads a message of the queue: every field is checked before anything is charged."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b

from google.protobuf.message import DecodeError
from ias.metering.v1 import events_pb2

from ias_metering.domain.events import MAX_EVENTS, Received, UsageEvent

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_S = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
_AHEAD = timedelta(days=1)
_MAX_COUNT = 10**12
_MAX_NANOS = 10**18
_MAX_MODEL = 512
_MAX_REQUEST_ID = 256
_MAX_OPERATION = 64


class BadBatch(Exception):
    """A message that can't be understood; it goes to the dead letters, whole."""


def parse(body: bytes, now: datetime) -> list[Received]:
    """The events of a message. Raises BadBatch when any of it is not what the contract says."""
    try:
        batch = events_pb2.UsageEventBatch.FromString(body)
    except DecodeError:
        raise BadBatch("not a UsageEventBatch") from None
    if not 1 <= len(batch.events) <= MAX_EVENTS:
        raise BadBatch(f"{len(batch.events)} events, not 1 to {MAX_EVENTS}")
    latest_s = (now + _AHEAD).timestamp()
    return [_received(event, latest_s) for event in batch.events]


def _received(event: events_pb2.UsageEvent, latest_s: float) -> Received:
    stamp = event.occurred_at
    if not (_EARLIEST_S <= stamp.seconds <= latest_s and 0 <= stamp.nanos < 10**9):
        raise BadBatch("occurred_at: not a time that can be")
    counts = (event.prompt_tokens, event.completion_tokens, event.cached_tokens)
    if min(counts) < 0 or max(counts) > _MAX_COUNT:
        raise BadBatch(f"token counts: not 0 to {_MAX_COUNT}")
    measures = (event.cost_nanos, event.time_to_first_token_us, event.duration_us)
    if min(measures) < 0 or max(measures) > _MAX_NANOS:
        raise BadBatch(f"cost or durations: not 0 to {_MAX_NANOS}")
    if not 1 <= event.status < 100:
        raise BadBatch("status: unspecified or unknown")
    if not 1 <= len(event.model) <= _MAX_MODEL or "\0" in event.model:
        raise BadBatch(f"model: not 1 to {_MAX_MODEL} characters")
    body = event.SerializeToString(deterministic=True)
    return Received(
        UsageEvent(
            event_id=_fresh_uuid("event_id", event.event_id),
            occurred_at=_EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000),
            organization_id=_uuid("organization_id", event.organization_id),
            user_id=_uuid("user_id", event.user_id),
            api_key_id=_uuid("api_key_id", event.api_key_id),
            lease_id=_uuid("lease_id", event.lease_id) if event.lease_id else None,
            model=event.model,
            operation=_text(event.operation, _MAX_OPERATION),
            status=event.status,
            prompt_tokens=counts[0],
            completion_tokens=counts[1],
            cached_tokens=counts[2],
            cost_nanos=measures[0],
            time_to_first_token_us=measures[1],
            duration_us=measures[2],
            request_id=_text(event.request_id, _MAX_REQUEST_ID),
            streamed=event.streamed,
        ),
        blake2b(body, digest_size=16).digest(),
        body,
    )


def _fresh_uuid(field: str, value: str) -> str:
    if _UUID.fullmatch(value) is None:
        raise BadBatch(f"{field}: not a UUID in canonical form")
    return value


# Organisations, users, keys and leases come again and again; ids of events don't.
_uuid = lru_cache(maxsize=50_000)(_fresh_uuid)


def _text(value: str, length: int) -> str:
    # Only descriptive: odd characters must not keep tokens from being charged.
    return value[:length].replace("\0", "")
