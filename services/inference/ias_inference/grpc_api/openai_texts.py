"""A field that holds one text or several, each as a string or as token ids."""

from collections.abc import Sequence

from ias_inference.domain.errors import InvalidRequest

Texts = str | Sequence[str | int | list[int]]


def texts_of(field: str, value: Texts) -> list[str | Sequence[int]]:
    """Each text for itself. Raises InvalidRequest for a mixture of forms."""
    if isinstance(value, str):
        return [value]
    kind = type(value[0])
    if any(type(part) is not kind for part in value):
        raise InvalidRequest(
            field, f"Invalid value for '{field}': all strings, all token ids, or all arrays of ids."
        )
    if kind is int:
        return [value]  # type: ignore[list-item]  # all are ints
    return list(value)  # type: ignore[arg-type]  # none is an int
