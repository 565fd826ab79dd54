"""A request's fields as vLLM's own types take them."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

_value_of = msgspec.json.Decoder().decode


def values_of(fields: Mapping[str, object], names: Iterable[str] | None = None) -> dict[str, Any]:
    """The values of all fields, or of `names`, read from JSON where they are JSON still.

    Those that are null count as absent.
    """
    return {
        name: value
        for name in (fields if names is None else names)
        if (value := _plain(fields[name])) is not None
    }


def _plain(value: object) -> Any:
    return _value_of(value) if isinstance(value, msgspec.Raw) else value
