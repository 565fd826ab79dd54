"""Small typed checks for management requests; each raises InvalidField naming the field."""

import base64
import binascii
import re
import uuid
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from ias_runtime.errors import InvalidField

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def text(field: str, value: str, *, max_length: int, required: bool = True) -> str:
    """A trimmed line of at most max_length characters, without control characters."""
    value = value.strip()
    if required and not value:
        raise InvalidField(field, "required")
    if len(value) > max_length:
        raise InvalidField(field, f"at most {max_length} characters, got {len(value)}")
    if _CONTROL.search(value):
        raise InvalidField(field, "no control characters")
    return value


def matching(field: str, value: str, pattern: re.Pattern[str], rule: str) -> str:
    """A text that matches the whole pattern; `rule` says so in words."""
    if not pattern.fullmatch(value):
        raise InvalidField(field, rule)
    return value


def uuid_text(field: str, value: str, *, required: bool = True) -> str:
    """A UUID in canonical form; empty when absent and not required."""
    if not value and not required:
        return ""
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise InvalidField(field, "must be a UUID" if value else "required") from None


def integer(field: str, value: int, *, minimum: int, maximum: int) -> int:
    """A number within bounds, both included."""
    if not minimum <= value <= maximum:
        raise InvalidField(field, f"must be {minimum} to {maximum}, got {value}")
    return value


def page_size(value: int, *, default: int = 100, maximum: int = 1000) -> int:
    """Rows of a page: the default when 0, never more than the maximum (AIP-158)."""
    if value < 0:
        raise InvalidField("page_size", "must not be negative")
    return min(value or default, maximum)


def page_token(value: str) -> str:
    """The position that a page token stands for; empty for the first page."""
    try:
        return base64.urlsafe_b64decode(value.encode()).decode()
    except (binascii.Error, ValueError):
        raise InvalidField("page_token", "not a token that this list gave") from None


def to_page_token(position: str) -> str:
    """The opaque token for a position; empty stays empty."""
    return base64.urlsafe_b64encode(position.encode()).decode()


def to_timestamp(moment: datetime | None) -> Timestamp | None:
    """A protobuf timestamp, None for none."""
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def moment(field: str, stamp: Timestamp) -> datetime:
    """An aware UTC datetime. Raises InvalidField for one outside years 1 to 9999."""
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidField(field, "not a valid time") from None
