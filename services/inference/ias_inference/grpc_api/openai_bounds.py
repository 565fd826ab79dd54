"""Bounds for the JSON schemas that an engine compiles before it answers.

An engine turns them into automata whose size, and the time that takes, can grow much faster than
the input. What is refused here is what no real request needs; finding it takes milliseconds, and
no longer for what is refused than for what is taken. Bytes are bounded before (openai_body.Reader).
"""

import json
from collections.abc import Iterable

from ias_inference.domain.errors import InvalidRequest
from ias_inference.grpc_api import openai_references
from ias_inference.grpc_api.openai_regex import check_regex

MAX_DEPTH = 32
"""Levels of a JSON schema, or of a tool's parameters."""
MAX_VALUES = 30_000
"""JSON values in a schema, or in those of all tools together."""
MAX_PATTERNS = 8192
"""Characters of all patterns in them."""
MAX_REFERENCES = 2000
"""Times that they say `$ref`."""
MAX_COUNTED = 64
"""Properties of the objects whose number is bounded (`minProperties`, `maxProperties`): what has
been said and what may follow is a state for each pair. xgrammar takes 0.1 s for 64 properties, and
minutes for 200.
"""
_COUNTS = ("minProperties", "maxProperties")


def check_schema(field: str, schema: object) -> None:
    """Bounds a JSON schema. Raises InvalidRequest."""
    check_schemas([(field, schema)])


def check_schemas(named: Iterable[tuple[str, object]]) -> None:
    """Bounds several, by the fields they come in, each and together. Raises InvalidRequest."""
    spent = _Spent()
    for field, schema in named:
        referring: list[dict[str, object]] = []
        for value in _objects(field, schema, spent):
            spent.take_patterns(field, value)
            spent.take_counted(field, value)
            if isinstance(value.get("$ref"), str):
                spent.take_reference(field)
                referring.append(value)
        if referring:
            openai_references.check(field, schema, referring)


def check_schema_text(field: str, text: str) -> None:
    """The same for a schema that is written as a string. Raises InvalidRequest."""
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest(field, f"'{field}' is not valid JSON.") from None
    check_schema(field, schema)


def check_size(field: str, value: object) -> None:
    """Bounds depth and number of JSON values that are no schema. Raises InvalidRequest."""
    for _ in _objects(field, value, _Spent()):
        pass


class _Spent:
    """What the schemas of a field have used of the bounds."""

    def __init__(self) -> None:
        self.values = self._patterns = self._references = self._counted = 0

    def take_patterns(self, field: str, schema: dict[str, object]) -> None:
        """Takes the patterns that an object has. Raises InvalidRequest."""
        patterns = [pattern] if isinstance(pattern := schema.get("pattern"), str) else []
        if isinstance(named := schema.get("patternProperties"), dict):
            patterns += named
        for pattern in patterns:
            self._patterns += len(pattern)
            if self._patterns > MAX_PATTERNS:
                told = f"more than {MAX_PATTERNS} characters of patterns"
                raise InvalidRequest(field, f"'{field}' has {told}.")
            check_regex(field, pattern)

    def take_reference(self, field: str) -> None:
        """Takes one reference. Raises InvalidRequest."""
        self._references += 1
        if self._references > MAX_REFERENCES:
            raise InvalidRequest(field, f"'{field}' has more than {MAX_REFERENCES} times '$ref'.")

    def take_counted(self, field: str, schema: dict[str, object]) -> None:
        """Takes the properties of an object that counts them. Raises InvalidRequest."""
        if not any(name in schema for name in _COUNTS):
            return
        if isinstance(named := schema.get("properties"), dict):
            self._counted += len(named)
        if self._counted > MAX_COUNTED:
            told = f"names more than {MAX_COUNTED} properties of objects with 'minProperties'"
            raise InvalidRequest(field, f"'{field}' {told} or 'maxProperties'.")


def _objects(field: str, value: object, spent: _Spent) -> Iterable[dict[str, object]]:
    """All JSON objects in a value, level by level. Raises InvalidRequest."""
    level = [value]
    for _ in range(MAX_DEPTH * 2):  # a schema alternates between keyword and subschema
        spent.values += len(level)
        if spent.values > MAX_VALUES:
            raise InvalidRequest(field, f"'{field}' has more than {MAX_VALUES} JSON values.")
        below: list[object] = []
        for one in level:
            if isinstance(one, dict):
                yield one
                below += one.values()
            elif isinstance(one, list):
                below += one
        if not below:
            return
        level = below
    raise InvalidRequest(field, f"'{field}' is nested more than {MAX_DEPTH} levels deep.")
