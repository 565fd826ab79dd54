"""An OpenAI-compatible model server that knows what it produced: the oracle of the flows.

The messages steer it, as `tokens=20 pace_ms=5 die_after=7`. Each streamed chunk is one token; the
prompt counts one token a word.
"""

import asyncio
import json
from dataclasses import dataclass, field

import ias_oracle_operations
from aiohttp import web


@dataclass
class Produced:
    """What one request took, as the server itself counted."""

    prompt_tokens: int
    completion_tokens: int = 0


@dataclass
class Oracle:
    """Its address, and every request it got."""

    url: str
    requests: list[Produced] = field(default_factory=list)
    bodies: list[dict] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    open_streams: int = 0
    quiet: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while no stream is open."""
    silent: bool = False
    """Whether it takes requests and answers none."""
    stalled: int = 0
    """Requests that it took while silent."""
    _port: int = 0
    _runner: web.AppRunner | None = None
    _transports: set[asyncio.BaseTransport] = field(default_factory=set)

    async def kill(self) -> None:
        """As `kill -9` looks from outside: connections are reset, nothing listens any more."""
        assert self._runner is not None
        for site in list(self._runner.sites):
            await site.stop()
        for transport in list(self._transports):
            transport.abort()  # type: ignore[attr-defined]
        await self._runner.cleanup()
        self._runner = None

    async def serve(self) -> None:
        """Serves, again after a kill."""
        self._runner = await _run(self, self._port)

    async def close(self) -> None:
        """Ends it, if it serves."""
        if self._runner is not None:
            await self._runner.cleanup()

    def totals(self) -> tuple[int, int, int]:
        """Requests, prompt tokens, completion tokens."""
        return (
            len(self.requests),
            sum(r.prompt_tokens for r in self.requests),
            sum(r.completion_tokens for r in self.requests),
        )


async def start(port: int) -> tuple[Oracle, web.AppRunner]:
    """Serves on 127.0.0.1:port until the runner's cleanup."""
    oracle = Oracle(url=f"http://127.0.0.1:{port}/v1", _port=port)
    oracle.quiet.set()
    return oracle, await _run(oracle, port)


async def started(port: int) -> Oracle:
    """The same, for tests that kill it and let it serve again."""
    oracle, oracle._runner = await start(port)
    return oracle


async def _run(oracle: Oracle, port: int) -> web.AppRunner:
    async def answer(request: web.Request) -> web.StreamResponse:
        transport = request.transport
        oracle._transports.add(transport)
        try:
            return await _answer(oracle, request)
        finally:
            oracle._transports.discard(transport)

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": []})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    app.router.add_get("/v1/models", models)
    ias_oracle_operations.add_routes(app, oracle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    return runner


async def _answer(oracle: Oracle, request: web.Request) -> web.StreamResponse:
    body = await request.json()
    if oracle.silent:
        oracle.stalled += 1
        await asyncio.sleep(3600)
    oracle.bodies.append(body)
    oracle.headers.append(dict(request.headers))
    words = [word for message in body["messages"] for word in str(message["content"]).split()]
    steer = dict(word.split("=", 1) for word in words if "=" in word)
    planned = min(int(steer.get("tokens", 12)), body.get("max_tokens") or 10**9)
    produced = Produced(prompt_tokens=len(words))
    oracle.requests.append(produced)
    common = {"id": "chatcmpl-oracle", "created": 1, "model": body["model"]}
    if body.get("stream"):
        return await _stream(oracle, request, common, produced, planned, steer)
    if "take_ms" in steer:
        await asyncio.sleep(int(steer["take_ms"]) / 1000)
    produced.completion_tokens = planned
    message = {"role": "assistant", "content": "word " * planned}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {**common, "object": "chat.completion", "choices": [choice], "usage": _usage(produced)}
    return web.json_response(answer)


async def _stream(oracle, request, common, produced, planned, steer) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    oracle.open_streams += 1
    oracle.quiet.clear()

    async def send(**fields: object) -> None:
        event = {**common, "object": "chat.completion.chunk", **fields}
        await response.write(f"data: {json.dumps(event)}\n\n".encode())

    try:
        for index in range(planned):
            if index == int(steer.get("die_after", -1)):
                # A reset discards what the other side has not read yet; what it counts must arrive.
                await asyncio.sleep(0.2)
                request.transport.abort()
                return response
            choice = {"index": 0, "delta": {"content": f"w{index} "}, "finish_reason": None}
            produced.completion_tokens += 1
            await send(choices=[choice], usage=_usage(produced))
            await asyncio.sleep(int(steer.get("pace_ms", 0)) / 1000)
        await send(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        await send(choices=[], usage=_usage(produced))
        await response.write(b"data: [DONE]\n\n")
    finally:
        oracle.open_streams -= 1
        if not oracle.open_streams:
            oracle.quiet.set()
    return response


def _usage(produced: Produced) -> dict[str, int]:
    return {
        "prompt_tokens": produced.prompt_tokens,
        "completion_tokens": produced.completion_tokens,
        "total_tokens": produced.prompt_tokens + produced.completion_tokens,
    }
