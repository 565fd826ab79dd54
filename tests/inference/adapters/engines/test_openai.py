"""The engine `openai` through the whole service, against HTTP servers that behave and misbehave."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from inference_support import Gateway, Handler, a_caller, an_upstream

from ias_inference.adapters.engines import openai
from ias_inference.domain.models import Backend, EngineKind
from ias_inference.domain.usage import UsageStatus
from ias_runtime.errors import InvalidField

ASK = {"model": "up", "messages": [{"role": "user", "content": "Hi"}]}
STREAM = ASK | {"stream": True}
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 8},
}
ANSWER = {
    "id": "cmpl-of-the-server",
    "object": "chat.completion",
    "created": 1,
    "model": "inner-name",
    "zeta": None,
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hé"}, "finish_reason": "stop"}
    ],
    "usage": USAGE,
    "alpha": 1.50,
}


def chunk(content: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "inner-name"}
    return b"data: " + json.dumps(body | {"choices": [choice]} | more).encode() + b"\n\n"


def usage_chunk(**usage: int) -> bytes:
    return chunk(choices=[], usage=usage)


class Server:
    """An upstream that notes what it was asked and answers as told."""

    def __init__(self, *parts: bytes | float, status: int = 200, body: Any = None) -> None:
        self.parts = parts
        self.status = status
        self.body = body
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.dropped = asyncio.Event()
        self.before: Any = None

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        self.headers.append({k.lower(): v for k, v in request.headers.items()})
        if self.before is not None and (found := self.before(self.asked[-1])) is not None:
            return found
        if not self.parts:
            raw = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
            return web.Response(status=self.status, body=raw, content_type="application/json")
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            for part in self.parts:
                if isinstance(part, bytes):
                    await response.write(part)
                elif part < 0:
                    assert request.transport is not None
                    request.transport.abort()
                else:
                    await asyncio.sleep(part)
        except asyncio.CancelledError:
            self.dropped.set()
            raise
        return response


async def served(gateway: Gateway, handler: Handler, body: Any, **facts: Any) -> Any:
    """The gateway's answer with `handler` behind the model `up`."""
    async with an_upstream(handler) as url:
        gateway.register("up", url, EngineKind.OPENAI, upstream_model="inner-name", **facts)
        async with asyncio.timeout(10):
            return await gateway.chat_completion(body, caller=a_caller("up"))


async def test_an_answer_passes_as_it_is_but_for_id_and_model(gateway: Gateway) -> None:
    server = Server(body=ANSWER)
    answer = await served(gateway, server, ASK | {"temperature": 0.5, "user": "me"}, api_key="k")
    assert answer.status == 200
    assert list(answer.json) == list(ANSWER)
    assert answer.json | {"id": 0, "model": 0} == ANSWER | {"id": 0, "model": 0}
    assert answer.json["id"].startswith("chatcmpl-")
    assert answer.json["model"] == "up"
    asked = server.asked[0]
    assert asked["model"] == "inner-name"
    assert asked["temperature"] == 0.5
    assert asked["max_tokens"] == 4096
    assert "stream" not in asked
    assert "user" not in asked
    assert server.headers[0]["authorization"] == "Bearer k"
    assert not [name for name in server.headers[0] if name.startswith(("x-", "grpc"))]
    event = await gateway.recorder.next_event()
    assert (event.prompt_tokens, event.completion_tokens, event.cached_tokens) == (9, 4, 8)
    assert event.status is UsageStatus.COMPLETED


async def test_a_stream_is_counted_by_its_usage_which_is_hidden(gateway: Gateway) -> None:
    server = Server(
        chunk("", usage={"prompt_tokens": 9, "completion_tokens": 0}),
        chunk("one two", usage={"prompt_tokens": 9, "completion_tokens": 2}),
        chunk(" three", "stop", usage={"prompt_tokens": 9, "completion_tokens": 3}),
        chunk(choices=[], usage=USAGE) + b"data: [DONE]\n\n",
    )
    answer = await served(gateway, server, STREAM)
    assert answer.text == "one two three"
    assert all("usage" not in event for event in answer.events)
    assert {event["model"] for event in answer.events} == {"up"}
    assert len({event["id"] for event in answer.events}) == 1
    assert server.asked[0]["stream_options"] == {
        "include_usage": True,
        "continuous_usage_stats": True,
    }
    event = await gateway.recorder.next_event()
    assert (event.prompt_tokens, event.completion_tokens, event.cached_tokens) == (9, 4, 8)


async def test_usage_is_shown_to_a_client_that_asked(gateway: Gateway) -> None:
    server = Server(chunk("one", "stop") + chunk(choices=[], usage=USAGE) + b"data: [DONE]\n\n")
    answer = await served(gateway, server, STREAM | {"stream_options": {"include_usage": True}})
    assert answer.events[0]["usage"] is None
    assert answer.events[-1]["usage"]["total_tokens"] == 13
    assert answer.events[-1]["choices"] == []


async def test_chunks_cut_anywhere_are_put_together(gateway: Gateway) -> None:
    whole = chunk("one") + chunk(" zwölf", "stop") + b"data: [DONE]\r\n\r\n"
    parts: list[bytes | float] = []
    for at in range(0, len(whole), 17):
        parts += [whole[at : at + 17], 0.0]
    answer = await served(gateway, Server(*parts), STREAM)
    assert answer.text == "one zwölf"


async def test_a_server_without_usage_is_counted_by_its_chunks(gateway: Gateway) -> None:
    server = Server(chunk(""), chunk("a"), chunk("b"), chunk(finish="stop"), b"data: [DONE]\n\n")
    await served(gateway, server, STREAM)
    event = await gateway.recorder.next_event()
    assert event.completion_tokens == 2
    assert event.prompt_tokens > 0


async def test_a_server_without_usage_is_charged_for_a_whole_answer_too(gateway: Gateway) -> None:
    server = Server(body={name: ANSWER[name] for name in ANSWER if name != "usage"})
    assert (await served(gateway, server, ASK)).status == 200
    event = await gateway.recorder.next_event()
    assert event.completion_tokens > 0
    assert event.prompt_tokens > 0


async def test_a_server_that_knows_no_continuous_usage_is_asked_without_it(
    gateway: Gateway,
) -> None:
    server = Server(chunk("a", "stop"), b"data: [DONE]\n\n")

    def refuse(asked: dict[str, Any]) -> web.Response | None:
        known = "continuous_usage_stats" not in asked["stream_options"]
        return None if known else web.json_response({"error": {"message": "what?"}}, status=400)

    server.before = refuse
    async with an_upstream(server) as url:
        gateway.register("up", url, EngineKind.OPENAI)
        for _ in range(2):
            answer = await gateway.chat_completion(STREAM, caller=a_caller("up"))
            assert answer.text == "a"
    assert len(server.asked) == 3


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_a_refusal_of_the_server_keeps_its_status(
    gateway: Gateway, status: int, stream: bool
) -> None:
    error = {"message": "tools are not for me", "param": "tools", "code": 400}
    server = Server(status=status, body={"error": error})
    answer = await served(gateway, server, ASK | {"stream": stream})
    assert answer.status == status
    assert answer.error["type"] == "invalid_request_error"
    assert "tools are not for me" in answer.error["message"]
    assert "'up'" in answer.error["message"]
    assert answer.error["param"] == "tools"
    assert answer.error["code"] is None or isinstance(answer.error["code"], str)
    assert (await gateway.recorder.next_event()).status is UsageStatus.FAILED


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [301, 401, 403, 500, 502, 503])
async def test_a_broken_server_is_a_503_that_tells_nothing(
    gateway: Gateway, status: int, stream: bool
) -> None:
    server = Server(status=status, body={"error": {"message": "inner secret"}})
    answer = await served(gateway, server, ASK | {"stream": stream})
    assert answer.status == 503
    assert answer.error["code"] == "service_unavailable"
    assert "secret" not in answer.body.decode()
    assert "retry-after" in answer.headers


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "garbage", [b"", b"<html>", b"[]", b"{}", b'{"choices":', b"data: {}\n\n", b"\xff" * 100]
)
async def test_garbage_is_a_503(gateway: Gateway, garbage: bytes, stream: bool) -> None:
    answer = await served(gateway, Server(body=garbage), ASK | {"stream": stream})
    assert answer.status == 503
    event = await gateway.recorder.next_event()
    assert event.status is UsageStatus.FAILED
    assert event.total_tokens == 0


async def test_nobody_listening_is_a_503(gateway: Gateway) -> None:
    gateway.register("up", "http://127.0.0.1:1/v1", EngineKind.OPENAI)
    for body in (ASK, STREAM):
        answer = await gateway.chat_completion(body, caller=a_caller("up"))
        assert answer.status == 503
    assert gateway.leases.open == []


@pytest.mark.parametrize("end", [(), (-1.0,), (b"data: garbage\n\n",)])
async def test_a_server_that_dies_in_mid_stream_is_an_error_event(
    gateway: Gateway, end: tuple[Any, ...]
) -> None:
    server = Server(chunk("a"), chunk("b"), 0.05, *end)
    answer = await served(gateway, server, STREAM)
    assert answer.status == 200
    assert answer.text == "ab"
    assert answer.events[-1]["error"]["code"] == "service_unavailable"
    event = await gateway.recorder.next_event()
    assert event.status is UsageStatus.FAILED
    assert event.completion_tokens == 2


async def test_an_error_event_of_the_server_is_passed_on_as_a_failure(gateway: Gateway) -> None:
    server = Server(chunk("a"), b'data: {"error": {"message": "inner"}}\n\n', b"data: [DONE]\n\n")
    answer = await served(gateway, server, STREAM)
    assert answer.events[-1]["error"]["type"] == "server_error"
    assert "inner" not in answer.events[-1]["error"]["message"]


async def test_a_server_that_stalls_is_given_up(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai, "STALL_S", 0.2)
    server = Server(chunk("a"), 60.0)
    answer = await served(gateway, server, STREAM)
    assert answer.events[-1]["error"]["code"] == "service_unavailable"
    assert "stalled" in answer.events[-1]["error"]["message"]
    await asyncio.wait_for(server.dropped.wait(), 2)


async def test_a_client_that_leaves_frees_the_server_at_once(gateway: Gateway) -> None:
    server = Server(chunk("a"), chunk("b"), 60.0)
    async with an_upstream(server) as url:
        gateway.register("up", url, EngineKind.OPENAI)
        call = gateway.call(STREAM, a_caller("up"))
        seen = b""
        while b'"b"' not in seen:
            seen += (await call.read()).data
        call.cancel()
        await asyncio.wait_for(server.dropped.wait(), 2)
        event = await gateway.recorder.next_event()
    assert event.status is UsageStatus.CANCELLED
    assert event.completion_tokens == 2


async def test_a_client_that_leaves_before_the_answer_frees_the_server(gateway: Gateway) -> None:
    arrived, dropped = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        arrived.set()
        try:
            await asyncio.sleep(60)
        finally:
            dropped.set()
        raise AssertionError

    async with an_upstream(slow) as url:
        gateway.register("up", url, EngineKind.OPENAI)
        for body in (ASK, STREAM):
            arrived.clear()
            dropped.clear()
            gateway.recorder.events.clear()
            call = gateway.call(body, a_caller("up"))
            await asyncio.wait_for(arrived.wait(), 2)
            call.cancel()
            await asyncio.wait_for(dropped.wait(), 2)
            assert (await gateway.recorder.next_event()).status is UsageStatus.CANCELLED


async def test_what_a_scarce_budget_allows_is_the_bound_of_a_whole_answer(
    gateway: Gateway,
) -> None:
    gateway.leases.limit = gateway.leases.left = 400
    server = Server(body=ANSWER)
    await served(gateway, server, ASK)
    assert 300 < server.asked[0]["max_tokens"] < 400
    assert gateway.leases.left == 400 - 13


async def test_a_connection_is_used_again(gateway: Gateway) -> None:
    peers = set()

    async def note(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        if (await request.json()).get("stream"):
            return await Server(chunk("a", "stop"), b"data: [DONE]\n\n")(request)
        return web.json_response(ANSWER)

    async with an_upstream(note) as url:
        gateway.register("up", url, EngineKind.OPENAI)
        for body in (ASK, STREAM, ASK, STREAM):
            await gateway.chat_completion(body, caller=a_caller("up"))
    assert len(peers) == 1


async def test_a_big_answer_comes_in_pieces(gateway: Gateway) -> None:
    big = {"message": {"role": "assistant", "content": "x" * 3_000_000}, "index": 0}
    answer = await served(gateway, Server(body=ANSWER | {"choices": [big]}), ASK)
    assert answer.messages > 4
    assert len(answer.text) == 3_000_000


@pytest.mark.parametrize(
    "url",
    ["", "host/v1", "ftp://h/v1", "http:///v1", "http://u:p@h/v1", "http://h:x/v1", "http://h?q=1"],
)
def test_a_url_that_can_not_be_served_is_refused(url: str) -> None:
    with pytest.raises(InvalidField):
        openai.OpenAIEngine().check(Backend(EngineKind.OPENAI, url))


async def test_every_bound_that_a_client_gave_is_lowered_to_what_was_drawn(
    gateway: Gateway,
) -> None:
    gateway.leases.limit = gateway.leases.left = 400
    server = Server(body=ANSWER)
    await served(gateway, server, ASK | {"max_tokens": 4000, "max_completion_tokens": 4000})
    assert server.asked[0]["max_tokens"] == server.asked[0]["max_completion_tokens"] < 400
