"""Backends and how they fare: who gets the requests, and what happens when one fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web
from ias_testing import free_address
from inference_support import Gateway, HttpAnswer, a_caller, a_gateway, an_upstream
from prometheus_client import REGISTRY

from ias_inference.adapters.engines import balancer, health
from ias_inference.domain.models import Backend, EngineKind, Model

HELLO = [{"role": "user", "content": "hello"}]


class Upstream:
    """A model server that answers as told, and counts."""

    def __init__(self) -> None:
        self.url = ""
        self.requests = 0
        self.running = 0
        self.checks = 0
        self.lists = True
        """Whether it passes checks."""
        self.mode = "answer"
        self.gate: asyncio.Event | None = None
        """When set, answers wait for it."""

    async def models(self, _: web.Request) -> web.Response:
        self.checks += 1
        return web.json_response({"data": [{"id": "m"}]}, status=200 if self.lists else 503)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        self.running += 1
        try:
            return await self._chat(request)
        finally:
            self.running -= 1

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self.mode == "stall":
            await asyncio.sleep(3600)
        if self.mode == "fail":
            return web.json_response({"error": {"message": "boom"}}, status=500)
        if self.mode == "refuse":
            return web.json_response({"error": {"message": "no"}}, status=400)
        if self.mode == "reset":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if self.gate is not None:
            await self.gate.wait()
        usage = {"prompt_tokens": 2, "completion_tokens": 1}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "hi"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response({"id": "x", "choices": [choice], "usage": usage})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        if self.mode == "silent stream":
            await asyncio.sleep(3600)
        await response.write(
            b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}],'
            b'"usage":{"prompt_tokens":2,"completion_tokens":1}}\n\n'
        )
        if self.mode == "die":
            await asyncio.sleep(0.1)
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(
            b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
        )
        return response


class Pair:
    """Two servers behind one model."""

    def __init__(self, gateway: Gateway, one: Upstream, two: Upstream) -> None:
        self.gateway, self.one, self.two = gateway, one, two
        self.both = (one, two)

    def register(self, *weights: int, url: str = "") -> None:
        backends = tuple(
            Backend(EngineKind.OPENAI, url, "m", weight=weight)
            for url, weight in zip((self.one.url, url or self.two.url), weights, strict=True)
        )
        self.gateway.put(Model(name="m", backends=backends, aliases=("n",)))

    async def ask(self, *, stream: bool = False, model: str = "m") -> HttpAnswer:
        body = {"model": model, "messages": HELLO, "stream": stream}
        return await self.gateway.chat_completion(body, caller=a_caller(model))

    async def shares(self, requests: int) -> tuple[int, int]:
        """How many of some requests, one after the other, each server got."""
        before = [upstream.requests for upstream in self.both]
        for _ in range(requests):
            assert (await self.ask()).status == 200
        one, two = (now.requests - then for now, then in zip(self.both, before, strict=True))
        return one, two

    def metric(self, name: str, upstream: Upstream) -> float:
        labels = {"model": "m", "backend": upstream.url}
        found = REGISTRY.get_sample_value(f"ias_inference_backend_{name}", labels)
        assert found is not None
        return found


@pytest.fixture
async def pair(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    monkeypatch.setattr(health, "INTERVAL_S", 0.1)
    monkeypatch.setattr(balancer, "EJECTED_S", (0.3, 1.0))
    one, two = Upstream(), Upstream()
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(a_gateway(first_byte_s=0.3))
        for upstream in (one, two):
            upstream.url = await stack.enter_async_context(
                an_upstream(upstream.chat, upstream.models)
            )
        pair = Pair(gateway, one, two)
        pair.register(1, 1)
        yield pair


async def until(condition: Any, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_equal_backends_take_turns(pair: Pair) -> None:
    assert await pair.shares(10) == (5, 5)


async def test_the_less_busy_gets_the_next_by_weight(pair: Pair) -> None:
    pair.register(3, 1)
    for upstream in pair.both:
        upstream.gate = asyncio.Event()
    running = [asyncio.create_task(pair.ask()) for _ in range(8)]
    await until(lambda: pair.one.running + pair.two.running == 8)
    assert (pair.one.running, pair.two.running) == (6, 2)
    assert pair.metric("in_flight", pair.one) == 6
    for upstream in pair.both:
        assert upstream.gate is not None
        upstream.gate.set()
    assert [answer.status for answer in await asyncio.gather(*running)] == [200] * 8
    assert pair.metric("in_flight", pair.one) == 0


@pytest.mark.parametrize(
    ("mode", "stream"),
    [(mode, stream) for mode in ("fail", "reset", "stall") for stream in (False, True)]
    + [("silent stream", True)],
)
async def test_before_the_first_byte_another_backend_is_tried_and_charged_once(
    pair: Pair, mode: str, stream: bool
) -> None:
    pair.one.mode = mode
    # What isn't streamed gets time for each token: few, for the test's sake.
    backends = pair.gateway.registry.get("m").backends
    pair.gateway.put(Model(name="m", backends=backends, max_output_tokens=4))
    for _ in range(4):
        answer = await pair.ask(stream=stream)
        assert answer.status == 200
        assert answer.text == "hi"
    assert pair.one.requests > 0
    assert pair.metric("retries_total", pair.one) > 0
    assert len(pair.gateway.recorder.events) == 4
    assert {event.total_tokens for event in pair.gateway.recorder.events} == {3}
    await until(lambda: pair.one.running == 0)


async def test_a_backend_that_fails_is_ejected_and_back_when_it_works_again(pair: Pair) -> None:
    pair.one.mode = "fail"
    await pair.shares(20)
    failed = pair.one.requests
    assert failed <= 4, "three failures, and perhaps one on trial"
    assert pair.metric("ejections_total", pair.one) >= 1
    pair.one.mode = "answer"

    async def shared() -> bool:
        one, _ = await pair.shares(4)
        return one == 2

    async with asyncio.timeout(5):
        while not await shared():
            await asyncio.sleep(0.05)


async def test_a_dead_backend_is_noticed_without_requests_and_comes_back(pair: Pair) -> None:
    pair.two.lists = False
    await until(lambda: pair.metric("healthy", pair.two) == 0)
    assert await pair.shares(6) == (6, 0)
    pair.two.lists = True
    await until(lambda: pair.metric("healthy", pair.two) == 1)
    assert await pair.shares(6) == (3, 3)


async def test_an_address_where_nothing_listens_costs_no_request(pair: Pair) -> None:
    pair.register(1, 1, url=f"http://{free_address()}/v1")
    assert await pair.shares(10) == (10, 0)


async def test_without_a_healthy_backend_it_is_503_with_retry_after(pair: Pair) -> None:
    for upstream in pair.both:
        upstream.lists = False
    await until(lambda: all(pair.metric("healthy", one) == 0 for one in pair.both))
    for stream in (False, True):
        answer = await pair.ask(stream=stream)
        assert answer.status == 503
        assert answer.error["code"] == "service_unavailable"
        assert "no healthy backend" in answer.error["message"]
        assert answer.headers["retry-after"]
    assert pair.one.requests == pair.two.requests == 0


async def test_requests_that_fail_everywhere_take_out_no_last_backend(pair: Pair) -> None:
    for upstream in pair.both:
        upstream.mode = "fail"
    for _ in range(12):
        assert (await pair.ask()).status == 503
    for upstream in pair.both:
        upstream.mode = "answer"
    assert (await pair.ask()).status == 200


async def test_a_refusal_is_about_the_request_and_is_tried_nowhere_else(pair: Pair) -> None:
    for upstream in pair.both:
        upstream.mode = "refuse"
    for _ in range(8):
        assert (await pair.ask()).status == 400
    assert pair.one.requests == pair.two.requests == 4
    assert pair.metric("healthy", pair.one) == 1


async def test_a_stream_that_dies_is_not_begun_anew(pair: Pair) -> None:
    pair.one.mode = pair.two.mode = "die"
    answer = await pair.ask(stream=True)
    assert answer.status == 200
    *pieces, last = answer.events
    assert pieces[0]["choices"][0]["delta"]["content"] == "hi"
    assert last["error"]["code"] == "service_unavailable"
    assert pair.one.requests + pair.two.requests == 1
    (event,) = pair.gateway.recorder.events
    assert (event.prompt_tokens, event.completion_tokens) == (2, 1)
    assert event.status == "failed"


async def test_with_one_backend_there_is_no_other_and_no_hurry(pair: Pair) -> None:
    backends = (Backend(EngineKind.OPENAI, pair.one.url, "m"),)
    pair.gateway.put(Model(name="m", backends=backends))
    pair.one.gate = asyncio.Event()
    asked = asyncio.create_task(pair.ask(stream=True))
    await asyncio.sleep(0.6)  # the double of what a backend gets beside another one
    assert not asked.done()
    pair.one.gate.set()
    assert (await asked).text == "hi"


async def test_a_lone_backend_is_watched_but_never_left_out(pair: Pair) -> None:
    pair.gateway.put(Model(name="m", backends=(Backend(EngineKind.OPENAI, pair.one.url, "m"),)))
    assert pair.metric("healthy", pair.one) == 1
    pair.one.lists = False
    await until(lambda: pair.metric("healthy", pair.one) == 0)
    for stream in (False, True):
        assert (await pair.ask(stream=stream)).text == "hi", (
            "a check may be wrong: it is all there is"
        )
    pair.one.mode = "fail"
    for _ in range(balancer.FAILURES + 1):
        assert (await pair.ask()).status == 503
    pair.one.mode, pair.one.lists = "answer", True
    assert (await pair.ask()).status == 200
    await until(lambda: pair.metric("healthy", pair.one) == 1)
    assert pair.metric("ejections_total", pair.one) == pair.metric("retries_total", pair.one) == 0


async def test_it_is_told_how_busy_a_lone_backend_is_by_whatever_name(pair: Pair) -> None:
    backends = (Backend(EngineKind.OPENAI, pair.one.url, "m"),)
    pair.gateway.put(Model(name="m", backends=backends, aliases=("n",)))
    pair.one.gate = asyncio.Event()
    running = [asyncio.create_task(pair.ask(model=name, stream=name == "n")) for name in "mnn"]
    await until(lambda: pair.one.running == 3)
    assert pair.metric("in_flight", pair.one) == 3
    pair.gateway.put(Model(name="m", backends=backends, aliases=("n",), display_name="changed"))
    running[0].cancel()
    await until(lambda: pair.metric("in_flight", pair.one) == 2)
    pair.one.gate.set()
    assert [answer.status for answer in await asyncio.gather(*running[1:])] == [200, 200]
    pair.one.mode = "fail"
    assert (await pair.ask()).status == 503
    pair.one.mode = "reset"
    assert (await pair.ask()).status == 503
    assert pair.metric("in_flight", pair.one) == 0


async def test_a_backend_that_becomes_the_only_one_is_back_at_once(pair: Pair) -> None:
    pair.two.lists = False
    await until(lambda: pair.metric("healthy", pair.two) == 0)
    pair.gateway.put(Model(name="m", backends=(Backend(EngineKind.OPENAI, pair.two.url, "m"),)))
    assert (await pair.ask()).status == 200
    pair.register(1, 1)
    assert pair.metric("healthy", pair.two) == 0, "what is known of it is kept"


async def test_a_server_of_many_models_is_asked_once_for_all(pair: Pair) -> None:
    backends = (Backend(EngineKind.OPENAI, pair.one.url, "m"),)
    for number in range(20):
        pair.gateway.put(Model(name=f"adapter-{number}", backends=backends))
    before = pair.one.checks
    await until(lambda: pair.two.checks >= 10)
    assert pair.one.checks - before < 20
    pair.one.lists = False
    labels = {"model": "adapter-19", "backend": pair.one.url}
    name = "ias_inference_backend_healthy"
    await until(lambda: REGISTRY.get_sample_value(name, labels) == 0)


async def test_a_model_that_is_gone_is_asked_after_no_more(pair: Pair) -> None:
    pair.gateway.models = []
    pair.gateway.registry.replace([])
    before = pair.one.checks + pair.two.checks
    assert REGISTRY.get_sample_value(
        "ias_inference_backend_healthy", {"model": "m", "backend": pair.one.url}
    ) is None  # fmt: skip
    await asyncio.sleep(0.3)  # three rounds of checks
    assert pair.one.checks + pair.two.checks <= before + 2, "but for those that were on their way"


async def test_an_alias_shares_the_backends_of_its_model(pair: Pair) -> None:
    for _ in range(3):
        assert (await pair.ask(model="n")).json["model"] == "n"
        assert (await pair.ask(model="m")).json["model"] == "m"
    assert pair.one.requests == pair.two.requests == 3


async def test_a_model_changed_while_requests_run_keeps_what_is_known_of_its_backends(
    pair: Pair,
) -> None:
    pair.one.gate = pair.two.gate = asyncio.Event()
    running = [asyncio.create_task(pair.ask()) for _ in range(2)]
    await until(lambda: pair.metric("in_flight", pair.one) == 1)
    model = pair.gateway.registry.get("m")
    pair.gateway.put(Model(name="m", backends=model.backends, display_name="changed"))
    assert pair.metric("in_flight", pair.one) == 1
    pair.gateway.models = []
    pair.gateway.registry.replace([])
    pair.one.gate.set()
    assert [answer.status for answer in await asyncio.gather(*running)] == [200, 200]
