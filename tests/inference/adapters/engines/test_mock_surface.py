"""Clients can be tried against the mock: tools, JSON, log-probabilities."""

import json
from typing import Any

import jsonschema
import pytest
from inference_support import Gateway

from ias_inference.adapters.engines.mock_json import instance_of

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city"],
}
TOOLS = [
    {"type": "function", "function": {"name": "get_time"}},
    {"type": "function", "function": {"name": "get_weather", "parameters": CITY}},
]
SCHEMAS: dict[str, Any] = {
    "object": CITY,
    "nested": {"type": "object", "properties": {"a": {"type": "array", "items": CITY}}},
    "enum": {"enum": ["red", "green"]},
    "const": {"type": "object", "properties": {"kind": {"const": "x"}}, "required": ["kind"]},
    "numbers": {
        "type": "object",
        "properties": {
            "a": {"type": "number", "minimum": 2.5},
            "b": {"type": "integer", "exclusiveMinimum": 10},
            "c": {"type": "integer", "maximum": -3},
            "d": {"type": "integer", "minimum": 7, "multipleOf": 5},
            "e": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "required": ["a", "b", "c", "d", "e"],
    },
    "lengths": {"type": "string", "minLength": 20, "maxLength": 22},
    "formats": {"type": "string", "format": "date-time"},
    "lists": {"type": "array", "items": {"type": "boolean"}, "minItems": 3, "maxItems": 3},
    "nullable": {"type": ["null", "string"]},
    "any": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    "all": {"allOf": [CITY, {"properties": {"x": {"type": "null"}}, "required": ["x"]}]},
    "reference": {
        "$defs": {"Point": {"type": "object", "properties": {"x": {"type": "number"}}}},
        "type": "object",
        "properties": {"points": {"type": "array", "items": {"$ref": "#/$defs/Point"}}},
        "required": ["points"],
        "additionalProperties": False,
    },
    "required without properties": {"type": "object", "required": ["a"]},
    "anything": {},
}


def ask(text: str = "Hi", **more: Any) -> dict[str, Any]:
    return {"model": "mock-gpt", "messages": [{"role": "user", "content": text}]} | more


def choice(answer: Any) -> Any:
    assert answer.status == 200, answer.body
    return answer.json["choices"][0]


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_an_instance_validates(schema: Any) -> None:
    jsonschema.validate(instance_of(schema), schema)


def test_a_schema_that_contains_itself_has_an_end() -> None:
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    assert "next" in instance_of(schema)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
async def test_an_answer_fits_the_schema_streamed_or_not(gateway: Gateway, schema: Any) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    whole = await gateway.chat_completion(ask(response_format=form))
    assert choice(whole)["finish_reason"] == "stop"
    if schema:
        jsonschema.validate(json.loads(whole.text), schema)
    streamed = await gateway.chat_completion(ask(response_format=form, stream=True))
    assert streamed.text == whole.text


async def test_json_that_meets_its_bound_ends_with_length(gateway: Gateway) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": CITY}}
    found = choice(await gateway.chat_completion(ask(response_format=form, max_tokens=3)))
    assert found["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("text", "tool_choice", "name"),
    [
        ("Hi", "required", "get_time"),
        ("Hi", {"type": "function", "function": {"name": "get_weather"}}, "get_weather"),
        ("Please call get_weather", "auto", "get_weather"),
        ("Please call get_weather", None, "get_weather"),
        ("Please call get_weather", "none", ""),
        ("Hi", "auto", ""),
    ],
)
async def test_a_tool_is_called_when_asked_for(
    gateway: Gateway, text: str, tool_choice: Any, name: str
) -> None:
    body = ask(text, tools=TOOLS, tool_choice=tool_choice)
    found = choice(await gateway.chat_completion(body))
    streamed = await gateway.chat_completion(body | {"stream": True})
    if not name:
        assert found["message"]["content"]
        assert "tool_calls" not in found["message"]
        return
    assert found["finish_reason"] == "tool_calls"
    (call,) = found["message"]["tool_calls"]
    assert found["message"]["content"] is None
    assert call["function"]["name"] == name
    arguments = json.loads(call["function"]["arguments"])
    if name == "get_weather":
        jsonschema.validate(arguments, CITY)
    deltas = [event["choices"][0]["delta"] for event in streamed.events]
    pieces = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert pieces[0]["function"]["name"] == name
    assert [piece.get("id") for piece in pieces] == [pieces[0]["id"], *[None] * (len(pieces) - 1)]
    joined = "".join(piece["function"]["arguments"] for piece in pieces)
    assert json.loads(joined) == arguments
    assert streamed.events[-1]["choices"][0]["finish_reason"] == "tool_calls"
    usage = gateway.recorder.events
    assert usage[0].completion_tokens == usage[1].completion_tokens == len(pieces)


async def test_after_the_tool_s_answer_the_mock_speaks(gateway: Gateway) -> None:
    body = ask("Please call get_weather", tools=TOOLS)
    call = choice(await gateway.chat_completion(body))["message"]
    result = {"role": "tool", "tool_call_id": call["tool_calls"][0]["id"], "content": "sunny"}
    body["messages"] += [call, result]
    assert choice(await gateway.chat_completion(body))["finish_reason"] == "stop"


async def test_a_tool_that_there_is_not_is_refused(gateway: Gateway) -> None:
    named = {"type": "function", "function": {"name": "other"}}
    for changes in ({"tools": TOOLS, "tool_choice": named}, {"tool_choice": "required"}):
        answer = await gateway.chat_completion(ask(**changes))
        assert answer.status == 400
        assert answer.error["param"] == "tool_choice"
    assert gateway.recorder.events == []


async def test_log_probabilities_tell_each_token(gateway: Gateway) -> None:
    body = ask(logprobs=True, top_logprobs=3)
    whole = await gateway.chat_completion(body)
    told = choice(whole)["logprobs"]["content"]
    assert "".join(one["token"] for one in told) == whole.text
    assert all(len(one["top_logprobs"]) == 3 for one in told)
    assert all(one["top_logprobs"][0]["token"] == one["token"] for one in told)
    assert all(bytes(one["bytes"]).decode() == one["token"] for one in told)
    streamed = await gateway.chat_completion(body | {"stream": True})
    pieces = [event["choices"][0]["logprobs"] for event in streamed.events]
    assert [piece["content"][0] for piece in pieces if piece] == told
    assert choice(await gateway.chat_completion(ask()))["logprobs"] is None


async def test_a_choice_is_one_of_those_given(gateway: Gateway) -> None:
    choices = ["red", "light green"]
    for field in ({"guided_choice": choices}, {"structured_outputs": {"choice": choices}}):
        assert (await gateway.chat_completion(ask(**field))).text in choices


async def test_what_the_mock_cannot_do_names_model_and_feature(gateway: Gateway) -> None:
    answer = await gateway.chat_completion(ask(guided_regex="[a-z]+"))
    assert answer.status == 400
    assert "mock-gpt" in answer.error["message"]
    assert "regular expressions" in answer.error["message"]
