"""Asks backends how they are, apart from the requests: for `model check`, and for health."""

import time
from types import TracebackType
from typing import Any, Self

import aiohttp
import grpc
import msgspec
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ias.inference.v1 import engine_pb2, engine_pb2_grpc

from ias_inference.domain.engines import Served
from ias_inference.domain.model_management import Probe
from ias_inference.domain.models import Backend, EngineKind
from ias_runtime.caller_token import MeshSigner

TIMEOUT_S = 5.0
_MAX_BYTES = 4 * 1024 * 1024
_FAILURES = (aiohttp.ClientError, OSError, TimeoutError, ValueError)
_NOT_READY = "The adapter is not ready to serve."
_WITHOUT_ANSWER = {
    grpc.StatusCode.UNAVAILABLE: _NOT_READY,
    grpc.StatusCode.UNIMPLEMENTED: "It can't say what it serves: it is an adapter of an older"
    " release, or none.",
    grpc.StatusCode.UNAUTHENTICATED: "It does not accept the mesh secret of this installation.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "It did not say in time what it serves.",
}
"""Why an adapter in good health did not say what it serves, by the status that it gave."""


class _Listed(msgspec.Struct):
    """An entry of `GET /models`; `max_model_len` is vLLM's, `context_length` others'."""

    id: str
    max_model_len: int | None = None
    context_length: int | None = None


class _List(msgspec.Struct):
    data: list[_Listed]


class Probes:
    """A domain.model_management.Prober for every kind of engine."""

    def __init__(self, mesh: MeshSigner, timeout_s: float = TIMEOUT_S) -> None:
        """`mesh` speaks for this service to adapters, and to nobody else."""
        self._mesh = mesh
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # A new connection each time: that, too, is what a probe is to find out about.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def probe(self, backend: Backend) -> Probe:
        """Asks one. Never raises."""
        if backend.engine is EngineKind.OPENAI:
            return await self._probe_http(backend)
        if backend.engine is EngineKind.VLLM:
            return await self._probe_adapter(backend)
        return Probe(reachable=True)

    async def _probe_http(self, backend: Backend) -> Probe:
        url = backend.url.rstrip("/") + "/models"
        headers = {"Authorization": f"Bearer {backend.api_key}"} if backend.api_key else {}
        started = time.perf_counter()
        try:
            async with self._session.get(url, headers=headers, allow_redirects=False) as answer:
                body = await answer.content.read(_MAX_BYTES)
                status = answer.status
        except _FAILURES as error:
            return Probe(reachable=False, problem=_told(error))
        latency_ms = (time.perf_counter() - started) * 1000
        if status >= 500 or status in (401, 403):
            why = " It does not accept the registered API key." if status in (401, 403) else ""
            return Probe(True, latency_ms, problem=f"GET /models gives status {status}.{why}")
        return Probe(True, latency_ms, _served(body) if status == 200 else None)

    async def _probe_adapter(self, backend: Backend) -> Probe:
        started = time.perf_counter()
        async with grpc.aio.insecure_channel(backend.address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
            try:
                answer = await check(
                    health_pb2.HealthCheckRequest(), timeout=self._timeout_s, wait_for_ready=False
                )
            except grpc.aio.AioRpcError as error:
                code = error.code().name.lower()
                return Probe(reachable=False, problem=f"It can't be reached ({code}).")
            latency_ms = (time.perf_counter() - started) * 1000
            if answer.status != health_pb2.HealthCheckResponse.SERVING:
                return Probe(True, latency_ms, problem=_NOT_READY)
            left_s = self._timeout_s - latency_ms / 1000
            try:
                return Probe(True, latency_ms, await self._served_by(channel, left_s))
            except grpc.aio.AioRpcError as error:
                return Probe(True, latency_ms, problem=_why_silent(error.code()))

    async def _served_by(
        self, channel: grpc.aio.Channel, timeout_s: float
    ) -> tuple[Served, ...] | None:
        # The token is no news to an adapter, which has the mesh secret itself.
        ask: Any = engine_pb2_grpc.EngineServiceStub(channel).GetServedModels
        answer: engine_pb2.GetServedModelsResponse = await ask(
            engine_pb2.GetServedModelsRequest(),
            timeout=timeout_s,
            metadata=self._mesh.metadata(),
        )
        if answer.any_name:
            return None
        return tuple(Served(one.name, one.context_length) for one in answer.models)


def _served(body: bytes) -> tuple[Served, ...] | None:
    try:
        listed = msgspec.json.decode(body, type=_List).data
    except (msgspec.DecodeError, ValueError):
        return None
    return tuple(Served(one.id, one.max_model_len or one.context_length or 0) for one in listed)


def _why_silent(code: grpc.StatusCode) -> str:
    return _WITHOUT_ANSWER.get(code, f"It does not say what it serves ({code.name.lower()}).")


def _told(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "It did not answer in time."
    return f"It can't be reached ({type(error).__name__})."
