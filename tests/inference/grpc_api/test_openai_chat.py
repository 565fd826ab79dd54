"""What a body may hold: each bad one gets a 400 that names the field and helps."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ias_inference.domain.errors import InvalidRequest
from ias_inference.grpc_api import openai_chat
from ias_inference.grpc_api.openai_chat import parse
from ias_inference.grpc_api.openai_errors import to_openai

GOOD: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def encoded(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def refused(data: bytes, content_type: str = "application/json") -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(data, content_type)
    answer = to_openai(caught.value)
    assert answer.status == 400
    assert json.loads(answer.body)["error"]["message"]
    return caught.value


MALFORMED = {
    "empty": b"",
    "not an object": b"[]",
    "null": b"null",
    "truncated": b'{"model": "m", "mess',
    "trailing characters": b'{"model":"m"} x',
    "trailing comma": b'{"model":"m",}',
    "bad UTF-8 in a value": b'{"model":"\xff","messages":[]}',
    "bad UTF-8 in a key": b'{"\xff":1}',
    "bad UTF-8 in a field passed on": encoded(tools=[])[:-1] + b',"metadata":{"a":"\xc3"}}',
    "a lone surrogate": b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}',
    "a lone surrogate deep inside": encoded()[:-1] + b',"tool_choice":{"a":"\\udc00x"}}',
    "NaN": encoded()[:-1] + b',"temperature":NaN}',
    "Infinity": encoded()[:-1] + b',"temperature":Infinity}',
    "10 000 deep": b'{"messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "10 000 deep in an unread field": b'{"tools":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
    "a byte order mark": b"\xef\xbb\xbf" + encoded(),
    "UTF-16": encoded().decode().encode("utf-16"),
    "a control character": b'{"model":"m\x01"}',
    "a key twice": b'{"model":"a","model":"m","messages":[{"role":"user","content":"Hi"}]}',
    "a key twice, spaced": b'{"model": "a", "messages": [{"role": "user", "content": "Hi"}], "model": "m"}',
    "a key twice, escaped": b'{"mode\\u006c":"a","model":"m","messages":[{"role":"user","content":"Hi"}]}',
    "a key twice, long": b'{"n":1,"messages":[{"role":"user","content":"Hi"}],"model":"m","n"  :  2}',
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_json_is_said_to_be_so(data: bytes) -> None:
    assert "JSON body" in refused(data).message


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"model": "m" * 300}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "root", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "x"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
        ),
        ({"messages": [{"role": "tool", "content": "5"}]}, "messages[0].tool_call_id"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": "http://10.0.0.1/"}}
                        ],
                    }
                ]
            },
            "messages[0].content[0].image_url.url",
        ),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 2**63}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"n": 0}, "n"),
        ({"n": 10**9}, "n"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logit_bias": {str(i): 1 for i in range(100_000)}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias[...]"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": {}}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options"),
        ({"seed": 2**64}, "seed"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 129}, "tools"),
        ({"tools": [{"type": "other"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"response_format": {"type": "regex"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"a": "x" * 70_000}}},
            "response_format",
        ),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"user": "u" * 600}, "user"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, Any], field: str) -> None:
    assert refused(encoded(**changes)).field == field


def test_a_number_beyond_all_numbers_names_its_field() -> None:
    error = refused(encoded()[:-1] + b',"temperature":1e400}')
    assert error.field == "temperature"


def test_missing_fields_are_named() -> None:
    assert refused(b"{}").field == "model"
    assert refused(b'{"model":"m"}').field == "messages"
    assert refused(json.dumps({"messages": GOOD["messages"]}).encode()).field == "model"


@pytest.mark.parametrize(
    "name",
    [
        "priority",
        "cache_salt",
        "request_id",
        "kv_transfer_params",
        "chat_template",
        "mm_processor_kwargs",
        "add_generation_prompt",
        "continue_final_message",
        "guided_grammar",
        "logits_processors",
        "vllm_xargs",
        "made_up",
        "Model",
        "",
        "x" * 5000,
    ],
)
def test_what_reaches_into_the_engine_or_is_unknown_is_refused_by_name(name: str) -> None:
    error = refused(encoded(**{name: None}))
    assert error.message == f"Unrecognized request argument supplied: {name[:200]}"
    assert error.field == name[:200]


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_another_content_type_is_refused(content_type: str) -> None:
    assert "application/json" in refused(encoded(), content_type).message


@pytest.mark.parametrize(
    "content_type", ["", "application/json; charset=utf-8", "Application/JSON"]
)
def test_json_by_any_name_is_taken(content_type: str) -> None:
    assert parse(encoded(), content_type).model == "m"


def test_everything_that_openai_defines_passes() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": "Be brief.", "name": "dev"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "content": "5", "tool_call_id": "c"},
    ]
    forwarded = {
        "messages": messages,
        "frequency_penalty": 1,
        "logit_bias": {"50256": -100},
        "logprobs": True,
        "top_logprobs": 5,
        "max_completion_tokens": 7,
        "n": 2,
        "presence_penalty": 0.5,
        "response_format": {"type": "json_object"},
        "seed": -5,
        "stop": ["a", "b"],
        "temperature": 1,
        "top_p": 0.5,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": 1.50}}}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning_effort": "low",
        "verbosity": "low",
        "modalities": ["text"],
        "prediction": {"type": "content", "content": "x"},
        "top_k": 5,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "min_tokens": 1,
        "ignore_eos": True,
        "stop_token_ids": [1],
        "skip_special_tokens": True,
    }
    ours = {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True, "include_obfuscation": False},
        "user": "me",
        "metadata": {"a": "b"},
        "store": False,
        "service_tier": "auto",
        "safety_identifier": "x",
        "prompt_cache_key": "y",
    }
    request = parse(json.dumps(forwarded | ours).encode(), "application/json")
    assert request.streamed
    assert request.include_usage
    assert json.loads(msgspec.json.encode(request.body)) == forwarded
    assert [turn.text for turn in request.turns] == ["Be kind.", "Be brief.", "a\nb", "", "5"]
    assert (request.max_tokens, request.n, request.seed, request.stop) == (7, 2, -5, ["a", "b"])


def test_nulls_are_as_good_as_absent() -> None:
    nothing = dict.fromkeys(openai_chat.Body.__struct_fields__)
    request = parse(json.dumps(nothing | GOOD).encode(), "")
    assert not request.streamed
    assert (request.max_tokens, request.n) == (None, 1)


def test_whitespace_of_any_kind_is_no_key_that_stands_twice() -> None:
    data = json.dumps(GOOD | {"stop": [" \t", "\n"]}, indent="\t").encode()
    assert parse(b"\r\n " + data + b"\n", "").stop == [" \t", "\n"]


@given(st.text(), st.integers() | st.floats() | st.text() | st.none() | st.lists(st.integers()))
def test_any_field_is_either_taken_or_refused(name: str, value: Any) -> None:
    try:
        parse(json.dumps(GOOD | {name: value}).encode(), "")
    except InvalidRequest as error:
        assert to_openai(error).status == 400


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    refused(data)


@given(st.data())
def test_a_good_body_cut_anywhere_is_refused(data: st.DataObject) -> None:
    whole = encoded(temperature=1)
    refused(whole[: data.draw(st.integers(0, len(whole) - 1))])
