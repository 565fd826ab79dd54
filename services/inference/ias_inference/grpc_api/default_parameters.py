"""A model's default parameters: the same fields, types and bounds as in a request."""

import json
from collections.abc import Mapping
from typing import Any, get_type_hints

import msgspec
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from ias_inference.grpc_api.openai_chat import Body
from ias_runtime.errors import InvalidField

MAX_BYTES = 16_384
_FIELD = "model.default_parameters"
_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "length_penalty",
    "min_tokens",
    "seed",
    "stop",
    "reasoning_effort",
    "verbosity",
)
_HINTS = get_type_hints(Body, include_extras=True)
_Defaults = msgspec.defstruct(
    "_Defaults",
    [
        *((name, _HINTS[name], None) for name in _SAMPLING),
        ("chat_template_kwargs", dict[str, Any] | None, None),
    ],
    forbid_unknown_fields=True,
)


def to_parameters(message: Struct) -> dict[str, Any]:
    """The fields as a request would send them. Raises InvalidField naming the wrong one."""
    fields = {
        name: _whole(value)
        for name, value in json_format.MessageToDict(message).items()
        if value is not None
    }
    if len(json.dumps(fields)) > MAX_BYTES:
        raise InvalidField(_FIELD, f"at most {MAX_BYTES} bytes of JSON")
    try:
        msgspec.convert(fields, _Defaults)
    except msgspec.ValidationError as error:
        rule, _, path = str(error).rpartition(" - at `$")
        if not rule:
            raise InvalidField(_FIELD, str(error)) from None
        raise InvalidField(_FIELD + path.rstrip("`"), rule) from None
    return fields


def from_parameters(parameters: Mapping[str, object]) -> Struct:
    """The same as a message."""
    return json_format.ParseDict(dict(parameters), Struct())


def _whole(value: Any) -> Any:
    """A Struct has one kind of number; what is whole was an integer."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_whole(part) for part in value]
    if isinstance(value, dict):
        return {name: _whole(part) for name, part in value.items()}
    return value
