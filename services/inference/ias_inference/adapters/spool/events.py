"""A usage as the contract has it: ias.metering.v1.UsageEvent, serialised."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from ias.metering.v1 import events_pb2 as pb

from ias_inference.domain.usage import Usage, UsageStatus

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STATUS = {
    UsageStatus.COMPLETED: pb.USAGE_STATUS_COMPLETED,
    UsageStatus.FAILED: pb.USAGE_STATUS_FAILED,
    UsageStatus.CANCELLED: pb.USAGE_STATUS_CANCELLED,
    UsageStatus.CUT_OFF: pb.USAGE_STATUS_CUT_OFF,
    UsageStatus.INTERRUPTED: pb.USAGE_STATUS_INTERRUPTED,
}


def to_body(usage: Usage) -> bytes:
    """The event as it stands now."""
    since = usage.occurred_at - _EPOCH
    return pb.UsageEvent(
        event_id=usage.event_id,
        occurred_at=Timestamp(
            seconds=since.days * 86400 + since.seconds, nanos=since.microseconds * 1000
        ),
        organization_id=usage.organization_id,
        user_id=usage.user_id,
        api_key_id=usage.api_key_id,
        lease_id=usage.lease_id,
        model=usage.model,
        operation=usage.operation,
        status=_STATUS[usage.status],
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        cost_nanos=usage.cost_nanos,
        time_to_first_token_us=usage.time_to_first_token_us,
        duration_us=usage.duration_us,
        request_id=usage.request_id,
        streamed=usage.streamed,
    ).SerializeToString()


def interrupted(body: bytes) -> bytes:
    """The final event of a request whose process was killed after this checkpoint."""
    event = pb.UsageEvent.FromString(body)
    event.status = pb.USAGE_STATUS_INTERRUPTED
    return event.SerializeToString()


def to_batch(bodies: list[bytes]) -> bytes:
    """A serialised UsageEventBatch; the events are laid in as they are, not parsed again."""
    # Field 1, length-delimited: the wire format of `repeated UsageEvent events = 1`.
    return b"".join(part for body in bodies for part in (b"\x0a", _varint(len(body)), body))


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)
