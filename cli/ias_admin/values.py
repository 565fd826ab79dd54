"""Values as people write and read them: times, durations, prices, numbers of tokens."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from ias_admin.errors import wrong_usage

_DURATION = re.compile(r"(\d{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_TOKENS = re.compile(r"(\d+(?:\.\d+)?)([kmbt]?)", re.IGNORECASE)
_MULTIPLES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_NANOS = Decimal(10**9)
_MOST_TOKENS = 10**15
_MOST_NANOS = 2**63 - 1


def duration(text: str) -> timedelta:
    """`90m`, `24h`, `30d`, `2w`."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise wrong_usage(f"{text!r} is no duration.", "Write one as 90m, 24h, 30d or 2w.")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def moment(text: str) -> datetime:
    """`2026-12-31` (00:00 UTC) or RFC 3339; UTC where no zone is given."""
    try:
        found = datetime.fromisoformat(text.strip())
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise wrong_usage(
            f"{text!r} is no date.", "Write one as 2026-12-31 or 2026-12-31T18:00:00Z."
        ) from None


def end(text: str) -> datetime:
    """A duration from now, or a date."""
    if not _DURATION.fullmatch(text.strip().lower()):
        return moment(text)
    try:
        return datetime.now(UTC) + duration(text)
    except OverflowError:
        raise wrong_usage(f"{text!r} is too long.") from None


def ago(text: str) -> datetime:
    """A duration before now."""
    try:
        return datetime.now(UTC) - duration(text)
    except OverflowError:
        raise wrong_usage(f"{text!r} is too long.") from None


def tokens(text: str) -> int | None:
    """`1000000`, `1,000,000`, `1_000_000`, `1M`; None for `unlimited`."""
    if text.strip().lower() == "unlimited":
        return None
    match = _TOKENS.fullmatch(text.strip().replace(",", "").replace("_", ""))
    number = Decimal(match[1]) * _MULTIPLES[match[2].lower()] if match else Decimal("0.5")
    if number != int(number) or number > _MOST_TOKENS:
        raise wrong_usage(
            f"{text!r} is no number of tokens.",
            "Write one as 5000000, 5,000,000 or 5M, or write unlimited.",
        )
    return int(number)


def price_nanos(text: str) -> int:
    """A decimal price in 10^-9 units of the currency."""
    try:
        nanos = Decimal(text.strip()) * _NANOS
    except ArithmeticError:
        nanos = Decimal("NaN")
    if not nanos.is_finite() or not 0 <= nanos <= _MOST_NANOS or nanos != int(nanos):
        raise wrong_usage(
            f"{text!r} is no price.", "Write one as 0.15: per 1 000 tokens, nine decimals at most."
        )
    return int(nanos)


def money(nanos: int) -> str:
    """A decimal with two decimals at least and nine at most, without loss."""
    text = f"{Decimal(nanos) / _NANOS:.9f}".rstrip("0")
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals:0<2}"


def iso(time: datetime) -> str:
    """RFC 3339 in UTC."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def names(text: str | None) -> list[str]:
    """The parts of a comma-separated list, without blanks."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]
