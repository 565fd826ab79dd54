"""/v1 through Envoy: bodies as they are, statuses as the service wishes, errors in OpenAI's shape."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import openai
import pytest
from google.api import httpbody_pb2
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from ias_front import Front, denied, http_body, model_of

from ias_envoy.model import MAX_BODY_BYTES

CHAT = "/v1/chat/completions"


def sdk(front: Front, key: str = "good") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=front.url("/v1"), api_key=key, max_retries=0)


def answering(status: int, body: bytes, **headers: str) -> Any:
    """A service that wishes for an HTTP status."""

    async def behaviour(_: bytes, context: Any) -> AsyncIterator[bytes]:
        metadata = {"x-ias-http-status": str(status), **headers}
        await context.send_initial_metadata(tuple(metadata.items()))
        yield http_body(body)

    return behaviour


def aborting(code: grpc.StatusCode, message: str, *, after_metadata: bool = False) -> Any:
    """A service that fails as the chassis does: a status with its details in the trailers."""

    async def behaviour(_: bytes, context: Any) -> AsyncIterator[bytes]:
        if after_metadata:
            await context.send_initial_metadata((("x-some", "header"),))
        details = any_pb2.Any()
        details.Pack(error_details_pb2.ErrorInfo(reason="WHY", domain="ias"))
        status = status_pb2.Status(code=code.value[0], message=message, details=[details])
        trailers = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(code, message, trailers)
        yield b""

    return behaviour


async def too_large(front: Front, body: bytes, content_type: str) -> bool:
    """Whether the body is refused with 413, worded as OpenAI does."""
    headers = {"content-type": content_type}
    while True:
        try:
            async with front.ask("POST", CHAT, data=body, headers=headers) as answer:
                error = (await answer.json())["error"]
                kind = (answer.status, error["type"], error["code"])
                return kind == (413, "invalid_request_error", "request_too_large")
        except aiohttp.ClientConnectionError:
            # Envoy closes after its answer; a client still writing then may not get to read it.
            continue


async def test_request_bytes_arrive_exactly_as_sent(front: Front) -> None:
    body = b'{ "model" :"m", "b":1, "a":null, "n":12345678901234567890, "u":"\\u0000\xc3\xa9" }'
    async with front.ask("POST", CHAT, data=body, headers={"content-type": "application/json"}):
        pass
    [call] = front.inference.calls
    assert httpbody_pb2.HttpBody.FromString(call.request).data == body


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "Application/JSON",
        "application/json ; charset=utf-8",
    ],
)
async def test_identity_sees_the_model_whatever_the_charset(
    front: Front, content_type: str
) -> None:
    headers = {"content-type": content_type}
    async with front.ask("POST", CHAT, data=b'{"model":"org/m"}', headers=headers) as answer:
        assert answer.status == 200
    assert [model_of(check) for check in front.authorization.checks] == ["org/m"]


@pytest.mark.parametrize(
    "path",
    ["completions", "responses", "embeddings", "rerank", "score", "tokenize", "detokenize"],
)
async def test_every_path_is_routed_by_its_model_and_reaches_its_method(
    front: Front, path: str
) -> None:
    body = b'{ "model": "org/m", "x": 1.50 }'
    headers = {"content-type": "application/json"}
    async with front.ask("POST", f"/v1/{path}", data=body, headers=headers) as answer:
        assert answer.status == 200
    assert [model_of(check) for check in front.authorization.checks] == ["org/m"]
    [call] = front.inference.calls
    method = call.method.rpartition("/")[2].lower().removeprefix("create")
    assert path.removesuffix("s") == method.removesuffix("s")
    assert httpbody_pb2.HttpBody.FromString(call.request).data == body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"model"',
        b'{"model":null}',
        b'{"model":{}}',
        b"\xff\xfe",
        b"[" * 10_000,
        b'{"a":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
        b'{"a":' * 100_000,
        b'{"model":' + b"9" * 400 + b"}",
        b'{"model":1e400}',
    ],
    ids=lambda body: repr(body[:12]),
)
async def test_a_body_without_a_readable_model_is_the_services_to_judge(
    front: Front, body: bytes
) -> None:
    headers = {"content-type": "application/json"}
    async with front.ask("POST", CHAT, data=body, headers=headers) as answer:
        assert answer.status == 200
    assert len(front.inference.calls) == 1


async def test_a_large_body_arrives_and_a_larger_one_is_refused(front: Front) -> None:
    prompt = "x" * (MAX_BODY_BYTES - 100)
    async with front.chat(model="m", data=None) as answer:
        assert answer.status == 200
    front.forget()
    body = json.dumps({"model": "m", "prompt": prompt}).encode()
    headers = {"content-type": "application/json"}
    async with front.ask("POST", CHAT, data=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
    assert len(httpbody_pb2.HttpBody.FromString(front.inference.calls[0].request).data) == len(body)
    assert [model_of(check) for check in front.authorization.checks] == ["m"]
    front.forget()
    assert await too_large(front, body + b" " * 200, "application/json")
    assert front.reached == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream"])
async def test_a_body_of_another_type_is_bounded_as_well(front: Front, content_type: str) -> None:
    assert await too_large(front, b" " * (MAX_BODY_BYTES + 1), content_type)
    # The stream may have been opened, but no message came: a handler never runs.
    assert not any(call.request for call in front.inference.calls)


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500, 503])
async def test_the_service_chooses_the_status(front: Front, status: int) -> None:
    body = b'{"error":{"message":"of the service","type":"t","param":null,"code":"c"}}'
    front.inference.behaviours["CreateChatCompletion"] = answering(
        status, body, **{"retry-after": "7"}
    )
    async with front.chat() as answer:
        assert (answer.status, await answer.read()) == (status, body)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["retry-after"] == "7"
        names = {name.lower() for name in answer.headers}
    assert not {name for name in names if name.startswith(("x-ias-", "grpc-", "x-envoy-"))}
    assert "x-request-id" in names


async def test_a_status_that_is_none_is_ignored(front: Front) -> None:
    front.inference.behaviours["CreateChatCompletion"] = answering(200, b"{}")

    async def wrong(_: bytes, context: Any) -> AsyncIterator[bytes]:
        await context.send_initial_metadata((("x-ias-http-status", "9999"),))
        yield http_body(b"{}")

    front.inference.behaviours["CreateChatCompletion"] = wrong
    async with front.chat() as answer:
        assert answer.status == 200


@pytest.mark.parametrize("after_metadata", [False, True])
@pytest.mark.parametrize(
    ("code", "status", "type_", "reason"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 400, "invalid_request_error", None),
        (grpc.StatusCode.UNAUTHENTICATED, 401, "invalid_request_error", "invalid_api_key"),
        (grpc.StatusCode.PERMISSION_DENIED, 403, "permission_error", None),
        (grpc.StatusCode.NOT_FOUND, 404, "invalid_request_error", None),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "requests", "rate_limit_exceeded"),
        (grpc.StatusCode.INTERNAL, 500, "server_error", None),
        (grpc.StatusCode.UNAVAILABLE, 503, "server_error", "service_unavailable"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504, "server_error", "timeout"),
    ],
    ids=str,
)
async def test_what_the_chassis_refuses_comes_in_openais_shape(
    front: Front,
    code: grpc.StatusCode,
    status: int,
    type_: str,
    reason: str | None,
    after_metadata: bool,
) -> None:
    message = 'It is "so"\\ \n and é.'
    front.inference.behaviours["CreateChatCompletion"] = aborting(
        code, message, after_metadata=after_metadata
    )
    async with front.chat() as answer:
        assert answer.status == status
        assert answer.headers["content-type"] == "application/json"
        assert not [name for name in answer.headers if name.lower().startswith("grpc-")]
        assert answer.headers.get("retry-after") == ("1" if status == 503 else None)
        error = (await answer.json())["error"]
    assert error == {"message": message, "type": type_, "param": None, "code": reason}


async def test_chunks_arrive_one_by_one(front: Front) -> None:
    received = asyncio.Event()

    async def stream(_: bytes, __: Any) -> AsyncIterator[bytes]:
        for number in range(3):
            yield http_body(b"data: %d\n\n" % number, "text/event-stream; charset=utf-8")
            await received.wait()  # the next one isn't made before this one has arrived
            received.clear()
        yield http_body(b"data: [DONE]\n\n")

    front.inference.behaviours["CreateChatCompletion"] = stream
    async with front.chat() as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        for number in range(3):
            assert await answer.content.readexactly(9) == b"data: %d\n\n" % number
            received.set()
        assert await answer.read() == b"data: [DONE]\n\n"


async def test_the_service_notices_a_client_that_leaves(front: Front) -> None:
    left = asyncio.Event()

    async def stream(_: bytes, __: Any) -> AsyncIterator[bytes]:
        try:
            yield http_body(b"data: 1\n\n", "text/event-stream")
            await asyncio.Event().wait()
        finally:
            left.set()

    front.inference.behaviours["CreateChatCompletion"] = stream
    async with front.chat() as answer:
        await answer.content.readexactly(9)
        answer.close()
    await asyncio.wait_for(left.wait(), 10)


@pytest.mark.parametrize("path", ["/v1/models/org%2Fname", "/v1/models/org/name"])
async def test_the_name_of_a_model_may_hold_a_slash(front: Front, path: str) -> None:
    async with front.ask("GET", path) as answer:
        assert answer.status == 200
    [call] = front.inference.calls
    assert call.method == "/ias.inference.v1.OpenAIService/RetrieveModel"
    assert call.request == b"\x0a\x08org/name"


async def test_unknown_query_parameters_are_ignored(front: Front) -> None:
    async with front.ask("POST", CHAT + "?api-version=1", json={"model": "m"}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/nothing"),
        ("GET", CHAT),
        ("DELETE", CHAT),
        ("POST", "/v1/nothing/at/all"),
        ("GET", "/v1/"),
    ],
)
async def test_an_unknown_url_is_404_in_openais_shape(front: Front, method: str, path: str) -> None:
    async with front.ask(method, path + "?secret=1") as answer:
        assert answer.status == 404
        error = (await answer.json())["error"]
    assert error == {
        "message": f"Unknown request URL: {method} {path}",
        "type": "invalid_request_error",
        "param": None,
        "code": "unknown_url",
    }


@pytest.mark.parametrize(
    ("status", "code"), [(401, "invalid_api_key"), (403, "x"), (429, "y"), (503, "z")]
)
async def test_a_denial_passes_as_identity_words_it(front: Front, status: int, code: str) -> None:
    front.authorization.denial = denied(status, code)
    async with front.http.post(front.url(CHAT), json={"model": "m"}) as answer:
        assert answer.status == status
        assert await answer.json() == {"error": {"message": "No.", "code": code}}
        assert answer.headers["x-should-retry"] == "false"
        assert answer.headers["content-type"] == "application/json"
    assert front.reached == []


async def test_a_model_without_a_cluster_is_unavailable(front: Front) -> None:
    async with front.chat("elsewhere") as answer:
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        error = (await answer.json())["error"]
    assert error["code"] == "service_unavailable"
    assert "No engine" in error["message"]


async def test_the_official_client_understands_it_all(front: Front) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        await sdk(front, key="bad").models.list()
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as unknown:
        await sdk(front).get("/nothing", cast_to=object)
    assert unknown.value.code == "unknown_url"
    body = b'{"error":{"message":"m","type":"insufficient_quota","param":null,"code":"c"}}'
    front.inference.behaviours["CreateChatCompletion"] = answering(429, body)
    with pytest.raises(openai.RateLimitError) as limited:
        await sdk(front).chat.completions.create(model="m", messages=[])
    assert limited.value.type == "insufficient_quota"


async def test_headers_behind_the_content_type_become_headers(front: Front) -> None:
    async def behaviour(_: bytes, __: Any) -> AsyncIterator[bytes]:
        carried = "application/json;;openai-processing-ms=3;;x-ratelimit-reset-tokens=25h3m0s"
        yield http_body(b'{"ok": true}', carried)

    front.inference.behaviours["CreateChatCompletion"] = behaviour
    async with front.ask("POST", CHAT, json={"model": "m"}) as answer:
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["openai-processing-ms"] == "3"
        assert answer.headers["x-ratelimit-reset-tokens"] == "25h3m0s"
        assert await answer.json() == {"ok": True}
