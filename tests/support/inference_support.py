"""What the tests of inference share: fakes of its ports, a served gateway, an OpenAI server."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc
import ias_testing
from aiohttp import web
from google.api.httpbody_pb2 import HttpBody
from ias.inference.v1 import (
    catalog_pb2_grpc,
    chat_pb2_grpc,
    completions_pb2_grpc,
    embeddings_pb2_grpc,
    engine_pb2_grpc,
    models_pb2_grpc,
    openai_pb2_grpc,
)

from ias_inference import wiring
from ias_inference.adapters.engines.balanced import BalancedEngine
from ias_inference.adapters.engines.mock import MockEngine
from ias_inference.adapters.engines.openai import OpenAIEngine
from ias_inference.adapters.engines.probes import Probes
from ias_inference.adapters.engines.remote import RemoteAdapters
from ias_inference.domain.engines import Adapter, Engine, Served
from ias_inference.domain.errors import EngineFailed
from ias_inference.domain.model_management import ModelStore
from ias_inference.domain.models import Backend, EngineKind, Model, Registry
from ias_inference.domain.ports import BudgetState, Draw
from ias_inference.domain.serving import Serving
from ias_inference.domain.usage import Usage
from ias_runtime import server
from ias_runtime.caller import Caller, CallerKind, Role
from ias_runtime.caller_token import CallerVerifier, MeshSigner
from ias_runtime.errors import ResourceExhausted, Unavailable
from ias_runtime.settings import ChassisSettings

RESET = datetime(2026, 12, 1, tzinfo=UTC)


def a_caller(model: str = "mock-gpt", **changes: Any) -> Caller:
    """A developer with an API key, allowed this model."""
    facts: dict[str, Any] = {
        "kind": CallerKind.API_KEY,
        "role": Role.ORG_USER,
        "organization_id": str(uuid.uuid4()),
        "user_id": str(uuid.uuid4()),
        "api_key_id": str(uuid.uuid4()),
        "model": model,
    }
    return Caller(**(facts | changes))


def an_admin(**changes: Any) -> Caller:
    """A System Admin with a session."""
    facts: dict[str, Any] = {
        "kind": CallerKind.SESSION,
        "role": Role.SYSTEM_ADMIN,
        "user_id": str(uuid.uuid4()),
    }
    return Caller(**(facts | changes))


class FakeLeases:
    """A domain.ports.Leases with one budget for everyone; None is unlimited."""

    def __init__(self, tokens: int | None = None) -> None:
        self.limit = tokens
        self.left = tokens
        self.open: list[Draw] = []
        self.settled: list[tuple[int, int]] = []
        """Drawn and used, of every ended draw."""
        self.plenty = False
        """Whether `need` is drawn rather than `want`, as while a budget is far from its end."""

    async def draw(self, caller: Caller, *, need: int, want: int, whole: bool) -> Draw:
        assert 0 < need <= want
        if self.left is None or self.plenty:
            tokens = want if whole else need
        else:
            tokens = want if want <= self.left else self.left
        if self.left is not None:
            if tokens < need or tokens > self.left:
                raise ResourceExhausted(
                    "The token budget of the organization is used up until 2026-12-01T00:00:00Z.",
                    reason="INSUFFICIENT_QUOTA",
                    metadata={"scope": "organization", "reset_time": "2026-12-01T00:00:00Z"},
                )
            self.left -= tokens
        draw = Draw(str(uuid.uuid4()), tokens)
        self.open.append(draw)
        return draw

    async def extend(self, draw: Draw, *, tokens: int) -> bool:
        assert tokens > 0
        if self.left is not None:
            if tokens > self.left:
                return False
            self.left -= tokens
        draw.tokens += tokens
        return True

    def settle(self, draw: Draw, used: int) -> None:
        self.open.remove(draw)
        self.settled.append((draw.tokens, used))
        if self.left is not None:
            self.left += draw.tokens - used

    def budget(self, caller: Caller) -> BudgetState | None:
        if self.limit is None or self.left is None:
            return None
        return BudgetState("organization", self.limit, self.left, RESET)


class MemoryRecorder:
    """A domain.ports.UsageRecorder that keeps everything in lists."""

    def __init__(self) -> None:
        self.events: list[Usage] = []
        self.checkpoints: list[Usage] = []
        self.full = False
        self.gate: asyncio.Event | None = None
        """When set, `record` waits for it."""

    def check(self) -> None:
        if self.full:
            raise Unavailable("spool", reason="SPOOL_FULL")

    def checkpoint(self, usage: Usage) -> None:
        self.checkpoints.append(copy(usage))

    async def record(self, usage: Usage) -> None:
        self.events.append(copy(usage))
        if self.gate is not None:
            await self.gate.wait()

    async def next_event(self) -> Usage:
        """The one event that there is, or will be."""
        async with asyncio.timeout(5):
            while not self.events:
                await asyncio.sleep(0.005)
        assert len(self.events) == 1
        return self.events[0]


class AnAdapter(RemoteAdapters):
    """A domain.engines.Adapter that says it serves these, and serves nothing."""

    def __init__(self, *models: Served) -> None:
        self.models = models
        self.asked = 0
        self.dead = False

    def served(self) -> tuple[Served, ...]:
        self.asked += 1
        if self.dead:
            raise EngineFailed("tiny", "is not ready")
        return self.models


class NoStore:
    """A ModelStore that nobody asks."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the store was asked for {name}")


@dataclass
class Gateway:
    """The service as served, and what stands behind it."""

    registry: Registry
    leases: FakeLeases
    recorder: MemoryRecorder
    serving: Serving
    channel: grpc.aio.Channel
    address: str
    models: list[Model] = field(default_factory=list)

    def register(self, name: str, url: str, engine: EngineKind, **facts: Any) -> Model:
        """Puts a model into the registry in memory."""
        backend = Backend(engine, url, facts.pop("upstream_model", name), facts.pop("api_key", ""))
        return self.put(Model(name=name, backends=(backend,), create_time=RESET, **facts))

    def put(self, model: Model) -> Model:
        """Puts a model, new or changed, into the registry in memory."""
        self.models = [known for known in self.models if known.name != model.name] + [model]
        self.registry.replace(self.models)
        return model

    def mock(self, url: str = "mock:?switches=1", name: str = "mock-gpt", **facts: Any) -> Model:
        return self.register(name, url, EngineKind.MOCK, **facts)

    @property
    def openai(self) -> openai_pb2_grpc.OpenAIServiceAsyncStub:
        return openai_pb2_grpc.OpenAIServiceStub(self.channel)  # type: ignore[return-value]

    @property
    def typed(self) -> chat_pb2_grpc.ChatServiceAsyncStub:
        return chat_pb2_grpc.ChatServiceStub(self.channel)  # type: ignore[return-value]

    @property
    def completions(self) -> completions_pb2_grpc.CompletionServiceAsyncStub:
        return completions_pb2_grpc.CompletionServiceStub(self.channel)  # type: ignore[return-value]

    @property
    def embeddings(self) -> embeddings_pb2_grpc.EmbeddingServiceAsyncStub:
        return embeddings_pb2_grpc.EmbeddingServiceStub(self.channel)  # type: ignore[return-value]

    @property
    def catalog(self) -> catalog_pb2_grpc.CatalogServiceAsyncStub:
        return catalog_pb2_grpc.CatalogServiceStub(self.channel)  # type: ignore[return-value]

    @property
    def engine(self) -> engine_pb2_grpc.EngineServiceAsyncStub:
        return engine_pb2_grpc.EngineServiceStub(self.channel)  # type: ignore[return-value]

    @property
    def management(self) -> models_pb2_grpc.ModelServiceAsyncStub:
        return models_pb2_grpc.ModelServiceStub(self.channel)  # type: ignore[return-value]

    async def chat_completion(
        self, body: Any, *, caller: Caller | None = None, content_type: str = "application/json"
    ) -> HttpAnswer:
        """What an HTTP client would see of POST /v1/chat/completions."""
        return await self.post(
            "CreateChatCompletion", body, caller=caller, content_type=content_type
        )

    async def post(
        self,
        method: str,
        body: Any,
        *,
        caller: Caller | None = None,
        content_type: str = "application/json",
    ) -> HttpAnswer:
        """What an HTTP client would see of the path that this RPC serves."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        who = caller or a_caller()
        call = getattr(self.openai, method)(
            HttpBody(content_type=content_type, data=data),
            metadata=ias_testing.signed(who, x_request_id="req-1"),
        )
        return await HttpAnswer.of(call)

    def call(self, body: Mapping[str, Any], caller: Caller | None = None) -> Any:
        """The call itself, to read from or cancel."""
        return self.openai.CreateChatCompletion(
            HttpBody(content_type="application/json", data=json.dumps(body).encode()),
            metadata=ias_testing.signed(caller or a_caller(), x_request_id="req-1"),
        )


@dataclass
class HttpAnswer:
    """An answer of the OpenAI surface as Envoy makes HTTP of it."""

    status: int
    headers: dict[str, str]
    content_type: str
    body: bytes
    messages: int

    @classmethod
    async def of(cls, call: Any) -> HttpAnswer:
        parts = [part async for part in call]
        headers = {key: str(value) for key, value in await call.initial_metadata()}
        return cls(
            status=int(headers.pop("x-ias-http-status", "200")),
            headers=headers,
            content_type=parts[0].content_type,
            body=b"".join(part.data for part in parts),
            messages=len(parts),
        )

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        """The stream's events; [DONE] must be the last, and is left out."""
        payloads = events_of(self.body)
        assert payloads[-1] == "[DONE]"
        return [json.loads(payload) for payload in payloads[:-1]]

    @property
    def named_events(self) -> list[tuple[str, Any]]:
        """The events of a response: name and payload of each."""
        blocks = self.body.decode().split("\n\n")
        assert blocks.pop() == ""
        lines = [block.split("\n") for block in blocks]
        assert all(len(pair) == 2 for pair in lines)
        return [
            (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
            for name, data in lines
        ]

    @property
    def text(self) -> str:
        """What the first choice says."""
        if self.content_type == "application/json":
            return str(self.json["choices"][0]["message"]["content"])
        return "".join(
            event["choices"][0]["delta"].get("content") or ""
            for event in self.events
            if event.get("choices")
        )


def events_of(body: bytes) -> list[str]:
    """The payloads of server-sent events."""
    blocks = body.decode().split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") for block in blocks)
    return [block.removeprefix("data: ") for block in blocks]


@asynccontextmanager
async def a_gateway(
    leases: FakeLeases | None = None,
    store: ModelStore | None = None,
    recorder: MemoryRecorder | None = None,
    first_byte_s: float = 30.0,
    adapter: Adapter | None = None,
) -> AsyncIterator[Gateway]:
    """The service over a real channel, with mock-gpt registered; without an `adapter`, none."""
    settings = ChassisSettings(
        database_url="postgresql://unused",
        caller_public_keys=ias_testing.PUBLIC_KEY,
        mesh_secret=ias_testing.MESH_SECRET,
    )
    registry, leases = Registry(), leases or FakeLeases()
    recorder = recorder or MemoryRecorder()
    adapter = adapter or RemoteAdapters()
    mesh = MeshSigner(ias_testing.MESH_SECRET, "inference", "inference")
    async with (
        OpenAIEngine() as one,
        Probes(mesh, timeout_s=1.0) as probes,
        BalancedEngine(one, EngineKind.OPENAI, registry, probes, first_byte_s) as openai,
    ):
        engines: dict[EngineKind, Engine] = {
            EngineKind.MOCK: MockEngine(),
            EngineKind.OPENAI: openai,
            EngineKind.VLLM: adapter,
        }
        serving = Serving(registry, engines, leases, recorder)
        address = ias_testing.free_address()
        bindings = wiring.bindings(
            serving, registry, leases, engines, store or NoStore(), prober=probes, adapter=adapter
        )
        service = server.Service("inference", address, "", bindings)
        verifier = CallerVerifier([ias_testing.PUBLIC_KEY], ias_testing.MESH_SECRET, service.name)
        built, _ = server.build(settings, service, verifier)
        await built.start()
        async with grpc.aio.insecure_channel(address, options=server.OPTIONS) as channel:
            gateway = Gateway(registry, leases, recorder, serving, channel, address)
            gateway.mock()
            yield gateway
        await built.stop(0)
        await serving.settled(5)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def an_upstream(handler: Handler, models: Handler | None = None) -> AsyncIterator[str]:
    """An HTTP server that answers every path by `handler`; gives its base URL."""
    app = web.Application(client_max_size=64 << 20)

    async def handle(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    if models is not None:
        app.router.add_get("/v1/models", models)
    app.router.add_post("/{path:.*}", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    host, _, port = ias_testing.free_address().rpartition(":")
    await web.TCPSite(runner, host, int(port)).start()
    try:
        yield f"http://{host}:{port}/v1"
    finally:
        await runner.cleanup()
