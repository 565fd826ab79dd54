"""JSON by a schema stays small, whatever the schema asks for."""

import json
import time
from typing import Any

import pytest

from ias_inference.adapters.engines.mock_json import instance_of


def lists(levels: int, items: dict[str, Any]) -> dict[str, Any]:
    """Lists of 64 lists of 64 lists …"""
    for _ in range(levels):
        items = {"type": "array", "minItems": 64, "items": items}
    return items


def tree(branches: int) -> dict[str, Any]:
    """An object that holds itself, many times."""
    return {"type": "object", "properties": {f"p{i}": {"$ref": "#"} for i in range(branches)}}


@pytest.mark.parametrize(
    "schema",
    [
        lists(8, {"type": "string"}),
        lists(3, {"const": "x" * 10_000}),
        lists(2, {"type": "string", "minLength": 1000}),
        tree(2),
        tree(20),
    ],
    ids=["lists", "long constants", "long texts", "tree", "wide tree"],
)
def test_a_value_that_would_be_too_large_is_ended(schema: dict[str, Any]) -> None:
    started = time.perf_counter()
    told = json.dumps(instance_of(schema))
    assert time.perf_counter() - started < 0.5
    assert len(told) < 150_000


def test_what_is_not_too_large_is_whole() -> None:
    schema = {"type": "object", "properties": {"rows": lists(2, {"type": "integer"})}}
    rows = instance_of(schema)["rows"]
    assert [len(row) for row in rows] == [64] * 64
