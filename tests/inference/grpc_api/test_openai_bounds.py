"""What an engine would have to compile is bounded, whatever field it comes in."""

import json
import re
import time
from typing import Any

import pytest

from ias_inference.domain.errors import InvalidRequest
from ias_inference.grpc_api import openai_bounds, openai_chat, openai_regex

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
    openai_regex.check_regex(FIELD, pattern)


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
        openai_regex.check_regex(FIELD, pattern)
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


def test_what_tools_have_together_is_bounded() -> None:
    pattern = {"type": "string", "pattern": "[a-z]*" * 100}
    tool = {"type": "function", "function": {"name": "f", "parameters": pattern}}
    parse(tools=[tool] * 13)
    with pytest.raises(InvalidRequest) as caught:
        parse(tools=[tool] * 14)
    assert caught.value.field == "tools[13].function.parameters"


def linked(**more: Any) -> dict[str, Any]:
    """A list, whose items hold the next."""
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}} | more
    return {"$ref": "#/$defs/node", "$defs": {"node": node}}


@pytest.mark.parametrize(
    "schema",
    [
        linked(),
        linked(anyOf=[{"type": "null"}, {"required": ["next"]}]),
        {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}},
        {"properties": {"$ref": {"type": "string"}, "a~/b": {}, "c": {"$ref": "#/properties/a~0~1b"}}},
        {"prefixItems": [{"type": "string"}, {"$ref": "#/prefixItems/0"}]},
        {"anyOf": [{"$ref": "#/$defs/a"}] * 50, "$defs": {"a": {"$ref": "#/$defs/b"}, "b": True}},
        {"properties": {f"p{i}": {"type": "integer"} for i in range(64)}, "minProperties": 1},
        {"properties": {f"p{i}": {"type": "integer"} for i in range(900)}},
    ],
)  # fmt: skip
def test_trees_lists_and_shared_parts_are_taken(schema: dict[str, Any]) -> None:
    openai_bounds.check_schema(FIELD, schema)


def doubling(levels: int) -> dict[str, Any]:
    """Each level stands twice in the one above."""
    defs: dict[str, Any] = {str(levels): {"type": "string"}}
    for level in range(levels):
        one = {"$ref": f"#/$defs/{level + 1}"}
        defs[str(level)] = {"type": "object", "properties": {"a": one, "b": one}}
    return {"$ref": "#/$defs/0", "$defs": defs}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"$ref": "#"}, "leads back to itself"),
        ({"anyOf": [{"type": "string"}, {"$ref": "#"}]}, "leads back to itself"),
        ({"properties": {"a": {"not": {"$ref": "#/properties/a"}}}}, "leads back to itself"),
        (
            {"$ref": "#/a", "a": {"allOf": [{"$ref": "#/b"}]}, "b": {"then": {"$ref": "#/a"}}},
            "leads back to itself",
        ),
        ({"$ref": "http://10.0.0.1/schema.json"}, "begin with '#/'"),
        ({"$ref": "file:///etc/passwd"}, "begin with '#/'"),
        ({"items": {"$ref": "#/$defs/gone"}}, "points at no schema"),
        ({"items": {"$ref": "#/enum"}, "enum": [1]}, "points at no schema"),
        ({"prefixItems": [{}], "items": {"$ref": "#/prefixItems/1"}}, "points at no schema"),
        (doubling(40), "JSON values when"),
        (doubling(19), "JSON values when"),
        ({"$defs": {"a": {}}, "anyOf": [{"$ref": "#/$defs/a"}] * 2001}, "times '$ref'"),
        ({"enum": list(range(30_001))}, "JSON values"),
        ({"anyOf": [{"pattern": "a" * 900}] * 10}, "characters of patterns"),
        ({"patternProperties": {f"{'a' * 900}{i}": {} for i in range(10)}}, "characters of patt"),
        ({"properties": {str(n): {} for n in range(65)}, "minProperties": 2}, "minProp"),
        (
            {"items": [{"properties": {"a": {}, "b": {}}, "maxProperties": 1}] * 33},
            "'minProperties' or 'maxProperties'",
        ),
        (nested(33), "nested more than"),
        (nested(400), "nested more than"),
    ],
)
def test_a_schema_that_could_take_for_ever_is_refused_at_once(
    schema: dict[str, Any], said: str
) -> None:
    took_s = []
    for _ in range(5):
        started = time.perf_counter()
        with pytest.raises(InvalidRequest, match=re.escape(said)) as caught:
            openai_bounds.check_schema(FIELD, schema)
        took_s.append(time.perf_counter() - started)
    assert caught.value.field == FIELD
    assert min(took_s) < 0.05


HOSTILE: list[tuple[str, bytes]] = [
    ("response_format", b'{"type":"json_schema","json_schema":{"schema":%b}}'),
    ("tools", b'[{"type":"function","function":{"name":"f","parameters":%b}}]'),
    ("guided_json", b"%b"),
    ("structured_outputs", b'{"json":%b}'),
]


@pytest.mark.parametrize(("field", "form"), HOSTILE, ids=[field for field, _ in HOSTILE])
@pytest.mark.parametrize(
    "schema",
    [
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"a":' * 500 + b"1" + b"}" * 500,
        b'{"anyOf":[' + b"{}," * 500_000 + b"{}]}",
        b'{"anyOf":[' + b'{"pattern":"(a|b)?c*"},' * 2500 + b"{}]}",
        b'{"$ref":"#"}',
    ],
    ids=["very deep", "deep", "huge", "patterns", "loop"],
)
def test_hostile_bodies_are_refused_at_once(field: str, form: bytes, schema: bytes) -> None:
    value = form.replace(b"%b", schema)
    body = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"%b":%b}'
    data = body % (field.encode(), value)
    took_s = []
    for _ in range(5):
        started = time.perf_counter()
        with pytest.raises(InvalidRequest) as caught:
            openai_chat.parse(data, "application/json")
        took_s.append(time.perf_counter() - started)
    # What is nested too deeply to be read at all is the fault of the whole body.
    assert caught.value.field.startswith(field) or "nested too deeply" in caught.value.message
    assert min(took_s) < 0.05


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+" * 200, "(" * 500 + "a+" + ")+" * 166, "((a{9}){9}){9}" * 71, "[" * 1000, "a{" * 500],
)
def test_a_regular_expression_is_judged_at_once(pattern: str) -> None:
    started = time.perf_counter()
    try:
        openai_regex.check_regex(FIELD, pattern)
    except InvalidRequest as refused:
        assert refused.field == FIELD
    assert time.perf_counter() - started < 0.05
