"""Reads the body of an OpenAI request: allowed fields, their types and bounds, nothing else.

Fields that OpenAI defines pass or are accepted without effect; so do common, harmless extensions.
What reaches into an engine (`priority`, `cache_salt`, `chat_template`, …) and what nobody knows is
refused, and never reaches the engine.
"""

from collections.abc import Mapping
from typing import Annotated, Generic, TypeVar, get_type_hints

import msgspec
from msgspec import Meta, Raw, Struct

from ias_inference.domain.errors import InvalidRequest

MAX_INT = 2**31 - 1

Count = Annotated[int, Meta(ge=1, le=MAX_INT)]
TokenId = Annotated[int, Meta(ge=0, le=MAX_INT)]
Label = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[dict[Annotated[str, Meta(max_length=64)], Label], Meta(max_length=16)]

B = TypeVar("B", bound=Struct)

_fields_of = msgspec.json.Decoder(dict[str, Raw]).decode
_WHITESPACE = (b" ", b"\n", b"\r", b"\t")


class StreamOptions(Struct, forbid_unknown_fields=True):
    """How a stream is sent."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Envelope(Struct, kw_only=True):
    """What every body has beside its operation's own fields; nothing of it reaches an engine."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    user: Label | None = None


class Streamed(Envelope, kw_only=True):
    """How the answer is sent, and what OpenAI keeps or schedules by, accepted without effect."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    service_tier: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None


ENVELOPE = frozenset(get_type_hints(Streamed))
"""Fields that no engine gets."""


class Reader(Generic[B]):
    """Reads bodies of one operation. Made once."""

    def __init__(
        self,
        body: type[B],
        withheld: frozenset[str] = ENVELOPE,
        most_bytes: Mapping[str, int] | None = None,
    ) -> None:
        """Of `body`, an engine gets all fields but those withheld.

        `most_bytes` bounds fields before anything looks into them.
        """
        self._most_bytes = dict(most_bytes or {})
        self._bounded = frozenset(self._most_bytes)
        self._known = frozenset(get_type_hints(body))
        self._forwarded = self._known - withheld
        self._decode = msgspec.json.Decoder(body).decode

    def read(self, data: bytes, content_type: str) -> tuple[B, dict[str, Raw]]:
        """The body, and its fields as they came. Raises InvalidRequest."""
        if content_type and content_type.partition(";")[0].strip().lower() != "application/json":
            raise InvalidRequest(
                "content-type", f"Send the body as application/json, not {content_type[:100]!r}."
            )
        fields = _decode(data)
        if not fields.keys() <= self._known:
            name = next(name for name in fields if name not in self._known)[:200]
            raise InvalidRequest(name, f"Unrecognized request argument supplied: {name}")
        if not self._bounded.isdisjoint(fields):
            self._check_lengths(fields)
        try:
            body = self._decode(data)
        except msgspec.ValidationError as error:
            raise _invalid(str(error)) from None
        except msgspec.DecodeError:
            raise _malformed(
                "a string holds half a surrogate pair or a control character"
            ) from None
        except UnicodeDecodeError:
            raise _malformed("it is not UTF-8") from None
        _check_whole(data, fields)
        return body, fields

    def _check_lengths(self, fields: Mapping[str, Raw]) -> None:
        for name in self._bounded & fields.keys():
            if length(fields[name]) > self._most_bytes[name]:
                most = self._most_bytes[name]
                raise InvalidRequest(name, f"'{name}' has more than {most} bytes.")

    def forward(self, fields: Mapping[str, Raw]) -> dict[str, object]:
        """What an engine gets, as it came."""
        known = self._forwarded
        return {name: fields[name] for name in fields if name in known}


def include_usage(body: Streamed) -> bool:
    """Whether a stream's usage is to be shown. Raises InvalidRequest for options without one."""
    options = body.stream_options
    if options is None:
        return False
    if not body.stream:
        raise InvalidRequest("stream_options", "'stream_options' needs 'stream' to be true.")
    return bool(options.include_usage)


def length(raw: Raw) -> int:
    """Bytes of a field as it came."""
    return memoryview(raw).nbytes


def missing(field: str) -> InvalidRequest:
    """A field that must be there and is not."""
    return InvalidRequest(field, f"Missing required parameter: '{field}'.")


def _decode(data: bytes) -> dict[str, Raw]:
    if not data:
        raise _malformed("it is empty")
    try:
        data.decode()
        return _fields_of(data)
    except UnicodeDecodeError:
        raise _malformed("it is not UTF-8") from None
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    except msgspec.ValidationError:
        raise _malformed("it must be an object") from None
    except msgspec.DecodeError as error:
        raise _malformed(str(error).removeprefix("JSON is malformed: ")) from None


def _malformed(why: str) -> InvalidRequest:
    return InvalidRequest("", f"We could not parse the JSON body of your request: {why}.")


def _invalid(told: str) -> InvalidRequest:
    """A validation failure of msgspec, as `max_tokens: Expected `int` >= 1`."""
    what, _, path = told.rpartition(" - at `")
    if not what:
        what, path = told, "$`"
    field = path[:-1].removeprefix("key in ").removeprefix("$").removeprefix(".")
    if what.startswith("Object missing required field `"):
        name = what.split("`")[1]
        return missing(f"{field}.{name}" if field else name)
    return InvalidRequest(field, f"Invalid value for '{field}': {what}.")


def _check_whole(data: bytes, fields: dict[str, Raw]) -> None:
    """Refuses a key that stands twice: two readers might see two requests.

    All bytes must be accounted for by the fields as decoded, punctuation and whitespace. So a key
    with escapes is refused too.
    """
    size = 1 + sum(len(name) + 4 for name in fields)
    raws = fields.values()
    size += sum(map(length, raws))
    if size == len(data):
        return
    spaces = sum(map(data.count, _WHITESPACE))
    for raw in raws:
        value = bytes(raw)
        spaces -= sum(map(value.count, _WHITESPACE))
    if size + spaces != len(data):
        raise _malformed("a key stands twice, or is written with escapes")
