"""Bad input through every endpoint, by the real front door: the right 4xx, and no engine touched."""

import json
from typing import Any

import httpx2 as httpx
import pytest

GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/v1/embeddings": {"input": "Hi"},
    "/v1/rerank": {"query": "q", "documents": ["d"]},
    "/v1/score": {"text_1": "a", "text_2": "b"},
    "/v1/tokenize": {"prompt": "Hi"},
    "/v1/detokenize": {"tokens": [1]},
}
PATHS = list(GOOD)
CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS, RERANK, SCORE, TOKENIZE, DETOKENIZE = PATHS
DEEP = 10_000
MANY = {str(number): 1 for number in range(100_000)}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


def tail(text: bytes) -> Any:
    """A body whose end is this text, where its closing brace would be."""
    return lambda body: json.dumps(body).encode()[:-1] + text


MALFORMED: dict[str, Any] = {
    "empty": lambda _: b"",
    "truncated": tail(b""),
    "no object": lambda _: b"[]",
    "a string": lambda _: b'"model"',
    "a trailing comma": tail(b",}"),
    "a comment": tail(b"/* */}"),
    "single quotes": lambda _: b"{'model': 'mock-gpt'}",
    "bad UTF-8": tail(b',"user":"\xff"}'),
    "UTF-16": lambda body: json.dumps(body).encode("utf-16"),
    "a lone surrogate": tail(b',"user":"\\ud800"}'),
    "a control character": tail(b',"user":"\x01"}'),
    "NaN": tail(b',"user":NaN}'),
    "a key twice": tail(b',"model":"mock-gpt"}'),
    "another model, escaped": tail(b',"mode\\u006c":"other"}'),
    "10 000 deep": tail(b',"user":' + b"[" * DEEP + b"]" * DEEP + b"}"),
    "10 000 objects deep": tail(b',"user":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}"),
}
FIELDS: list[tuple[str, Any, str]] = [
    ("model", 5, "model"),
    ("model", None, "model"),
    ("user", "u" * 600, "user"),
    ("user", 5, "user"),
    ("priority", 1, "priority"),
    ("cache_salt", "x", "cache_salt"),
    ("request_id", "x", "request_id"),
    ("kv_transfer_params", {}, "kv_transfer_params"),
    ("chat_template", "{{ 1 }}", "chat_template"),
    ("made_up'; drop table models; --", 1, "made_up"),
]
OF_ONE: list[tuple[str, str, Any, str]] = [
    (CHAT, "messages", [], "messages"),
    (CHAT, "messages", [{"role": "wizard", "content": "x"}], "messages[0].role"),
    (CHAT, "n", 10**9, "n"),
    (CHAT, "n", -1, "n"),
    (CHAT, "max_tokens", 2**63, "max_tokens"),
    (CHAT, "temperature", -0.0001, "temperature"),
    (CHAT, "logit_bias", MANY, "logit_bias"),
    (CHAT, "stop", ["a"] * 5, "stop"),
    (CHAT, "tools", [{"type": "function", "function": {"name": "f"}}] * 129, "tools"),
    (CHAT, "guided_regex", "(a+)+$", "guided_regex"),
    (CHAT, "guided_json", nested(60), "guided_json"),
    (CHAT, "structured_outputs", {"grammar": "root ::= root"}, "structured_outputs"),
    (CHAT, "top_logprobs", 5, "top_logprobs"),
    (CHAT, "stream_options", {"include_usage": True}, "stream_options"),
    (COMPLETIONS, "prompt", [], "prompt"),
    (COMPLETIONS, "prompt", ["a"] * 129, "prompt"),
    (COMPLETIONS, "prompt", [2**63], "prompt[0]"),
    (COMPLETIONS, "prompt", [2**31 - 1], "prompt"),
    (COMPLETIONS, "best_of", 20, "best_of"),
    (COMPLETIONS, "logprobs", 100, "logprobs"),
    (COMPLETIONS, "logit_bias", MANY, "logit_bias"),
    (COMPLETIONS, "max_tokens", 0, "max_tokens"),
    (COMPLETIONS, "echo", 1, "echo"),
    (RESPONSES, "input", [], "input"),
    (RESPONSES, "previous_response_id", "resp_1", "previous_response_id"),
    (RESPONSES, "background", True, "background"),
    (RESPONSES, "tools", [{"type": "web_search"}], "tools[0].type"),
    (RESPONSES, "max_output_tokens", -5, "max_output_tokens"),
    (RESPONSES, "text", {"format": {"type": "json_schema", "schema": nested(60)}}, "text.format"),
    (EMBEDDINGS, "input", "", "input"),
    (EMBEDDINGS, "input", ["a"] * 2049, "input"),
    (EMBEDDINGS, "input", [["a"]], "input[0][0]"),
    (EMBEDDINGS, "dimensions", 10**9, "dimensions"),
    (EMBEDDINGS, "encoding_format", "hex", "encoding_format"),
    (RERANK, "documents", [], "documents"),
    (RERANK, "documents", ["a"] * 2049, "documents"),
    (RERANK, "top_n", 0, "top_n"),
    (RERANK, "query", "", "query"),
    (SCORE, "text_1", ["a", "b"], "text_1"),
    (SCORE, "text_2", [], "text_2"),
    (TOKENIZE, "prompt", ["a"], "prompt"),
    (TOKENIZE, "prompt", None, "prompt"),
    (DETOKENIZE, "tokens", ["a"], "tokens[0]"),
    (DETOKENIZE, "tokens", [2**30], "tokens"),
]


class Door:
    """Sends bodies, and knows whether an engine saw any of them."""

    def __init__(self, stack: Any, client: httpx.AsyncClient) -> None:
        self._stack = stack
        self._client = client

    async def post(self, path: str, body: Any, content_type: str = "application/json") -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": content_type}
        return await self._client.post(path, content=data, headers=headers)

    def good(self, path: str, **changes: Any) -> dict[str, Any]:
        return {"model": self._stack.model, **GOOD[path], **changes}


@pytest.fixture
async def door(stack):
    before = stack.mock_counters()
    async with httpx.AsyncClient(base_url=stack.url, headers=stack.bearer, timeout=20) as client:
        yield Door(stack, client)
        assert (await client.get("/v1/models")).status_code == 200
    assert stack.mock_counters() == before, "an engine was touched"


def explained(answer: Any) -> dict[str, Any]:
    """The error, in OpenAI's shape."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert answer.headers["x-request-id"]
    return error


@pytest.mark.parametrize("path", PATHS)
async def test_malformed_json(door, path):
    for name, broken in MALFORMED.items():
        answer = await door.post(path, broken(door.good(path)))
        assert answer.status_code == 400, f"{name}: {answer.text}"
        assert explained(answer)["type"] == "invalid_request_error", name


@pytest.mark.parametrize("path", PATHS)
async def test_fields_of_every_operation(door, path):
    for field, value, param in FIELDS:
        answer = await door.post(path, door.good(path, **{field: value}))
        assert answer.status_code == 400, f"{field}: {answer.text}"
        assert str(explained(answer)["param"]).startswith(param), field


@pytest.mark.parametrize(("path", "field", "value", "param"), OF_ONE)
async def test_fields_of_one_operation(door, path, field, value, param):
    answer = await door.post(path, door.good(path, **{field: value}))
    assert answer.status_code == 400, answer.text
    assert str(explained(answer)["param"]).startswith(param)


@pytest.mark.parametrize("path", PATHS)
async def test_missing_fields_and_unknown_models(door, path):
    for field in GOOD[path]:
        body = door.good(path)
        del body[field]
        answer = await door.post(path, body)
        assert answer.status_code == 400
        assert explained(answer)["param"] == field
    unknown = await door.post(path, door.good(path, model="no/such"))
    assert unknown.status_code == 404
    assert explained(unknown)["code"] == "model_not_found"
    for content_type in ("text/plain", "application/x-www-form-urlencoded"):
        other = await door.post(path, door.good(path), content_type)
        assert other.status_code == 400
        assert "application/json" in explained(other)["message"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_body_that_is_too_large(door, path):
    try:
        answer = await door.post(path, b'{"model":"mock-gpt","user":"' + b"x" * (33 << 20) + b'"}')
    except (httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):
        return  # Envoy closes after its answer; a client still writing then may not get to read it
    assert answer.status_code == 413
    assert explained(answer)["code"] == "request_too_large"


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_key_or_with_get(stack, path):
    async with httpx.AsyncClient(base_url=stack.url) as client:
        answer = await client.post(path, json={"model": stack.model, **GOOD[path]})
        assert answer.status_code == 401
        assert explained(answer)["code"] == "invalid_api_key"
        seen = await client.get(path, headers=stack.bearer)
    assert seen.status_code in (404, 405)
