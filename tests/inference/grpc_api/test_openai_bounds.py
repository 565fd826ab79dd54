"""What an engine would have to compile is bounded, whatever field it comes in."""

import json
from typing import Any

import pytest

from ias_inference.domain.errors import InvalidRequest
from ias_inference.grpc_api import openai_bounds, openai_chat

GOOD: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
FIELD = "guided_regex"


def parse(**changes: Any) -> None:
    openai_chat.parse(json.dumps(GOOD | changes).encode(), "application/json")


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "abc",
        r"\d{4}-\d{2}-\d{2}",
        r"[a-z]+@[a-z]+\.com",
        r"([a-z]+,)*[a-z]+",
        r"(?:yes|no)",
        r"[]a-z\]]+?",
        r"[^]]*",
        r"a{2,}b{,3}{",
        r"(a|b)*",
        r"\(\*\+\?",
    ],
)
def test_what_people_write_is_taken(pattern: str) -> None:
    openai_bounds.check_regex(FIELD, pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a*)*",
        "((a+)+)+b",
        "(a|b+)*",
        "(?:a*|b)+",
        "(a+){2,}",
        "(a?b*)+",
        "a{100001}",
        "a{1000}{1000}",
        "((a{100}){100}){100}",
        "(a{99}){99}(b{99}){99}",
        "a{99999999999}",
        "(?=a)b",
        "(?P<name>a)",
        r"(a)\1",
        "(",
        ")",
        "*a",
        "a|*",
        "[a",
        "a\\",
        "a" * 1001,
    ],
)
def test_what_could_grow_without_end_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        openai_bounds.check_regex(FIELD, pattern)
    assert caught.value.field == FIELD


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"guided_regex": "(a+)+$"}, "guided_regex"),
        ({"structured_outputs": {"regex": "(a+)+$"}}, "structured_outputs.regex"),
        ({"structured_outputs": {"grammar": "root ::= root"}}, "structured_outputs"),
        ({"structured_outputs": {"json": {"pattern": "(a+)+$"}}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        ({"structured_outputs": {"choice": ["a"] * 257}}, "structured_outputs.choice"),
        ({"guided_json": nested(40)}, "guided_json"),
        ({"guided_json": "[" * 5000}, "guided_json"),
        ({"guided_json": {"a": "x" * 70_000}}, "guided_json"),
        ({"guided_choice": ["x" * 1001]}, "guided_choice[0]"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": nested(40)}}},
            "response_format",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": {"patternProperties": {"(a+)+": {}}}},
                }
            },
            "response_format",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": nested(40)}}]},
            "tools[0].function.parameters",
        ),
        (
            {
                "tools": [
                    {"type": "function", "function": {"name": "f", "description": "x" * 600_000}}
                ]
            },
            "tools",
        ),
        ({"tool_choice": nested(40)}, "tool_choice"),
        ({"prediction": nested(40)}, "prediction"),
    ],
)
def test_it_is_bounded_in_every_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**changes)
    assert caught.value.field == field


def test_reasonable_schemas_pass() -> None:
    schema = nested(20) | {"pattern": r"^[a-z]+$"}
    parse(
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
        structured_outputs={"json": schema, "regex": "[a-z]+"},
        guided_json=json.dumps(schema),
        guided_choice=["yes", "no"],
    )
