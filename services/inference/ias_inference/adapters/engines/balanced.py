"""Spreads the requests of models with several backends, around an engine that serves one.

A request is sent to another backend only while its client has seen nothing of an answer: when a
backend can't be reached, answers with a failure of its own, or is silent for too long. A model with
one backend passes straight through: it is watched like the others, for the metrics alone.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Protocol, Self

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from ias_inference.adapters.engines.balancer import Member, Pool
from ias_inference.adapters.engines.health import HealthChecks
from ias_inference.domain.engines import Engine, Estimate, Job, Request
from ias_inference.domain.errors import EngineFailed, EngineRefused
from ias_inference.domain.model_management import Prober
from ias_inference.domain.models import Backend, EngineKind, Model, Registry

FIRST_BYTE_S = 30.0
"""For which a backend may be silent when there is another one: requests may wait in line there."""
_TOKEN_S = 0.05
"""Added for each token of an answer that isn't streamed, whose first byte comes after the last."""


class BackendEngine(Engine, Protocol):
    """An Engine that serves `job.backend`."""

    def in_flight(self, model: str, backend: Backend) -> int:
        """Requests to a model, by its registered name, that are at a backend now."""
        ...


class BalancedEngine:
    """An Engine of several backends, over `engine`."""

    def __init__(
        self,
        engine: BackendEngine,
        kind: EngineKind,
        registry: Registry,
        prober: Prober,
        first_byte_s: float = FIRST_BYTE_S,
    ) -> None:
        self._engine = engine
        self._kind = kind
        self._registry = registry
        self._first_byte_s = first_byte_s
        self._checks = HealthChecks(prober)
        self._pools: dict[str, Pool] = {}

    async def __aenter__(self) -> Self:
        self._refresh()
        self._registry.subscribe(self._refresh)
        REGISTRY.register(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        REGISTRY.unregister(self)
        self._registry.unsubscribe(self._refresh)
        self._checks.watch(())

    def check(self, backend: Backend) -> None:
        """As the engine does."""
        self._engine.check(backend)

    def prepare(self, model: Model, request: Request) -> Coroutine[Any, Any, Estimate]:
        """As the engine does."""
        return self._engine.prepare(model, request)

    def complete(self, job: Job) -> Coroutine[Any, Any, bytes]:
        """See Engine.complete. Raises EngineFailed when no backend is fit, too."""
        if len(job.model.backends) == 1:
            return self._engine.complete(job)
        return self._complete(job)

    def stream(self, job: Job) -> AsyncGenerator[list[bytes], None]:
        """See Engine.stream. Raises EngineFailed when no backend is fit, too."""
        if len(job.model.backends) == 1:
            return self._engine.stream(job)
        return self._stream(job)

    async def _complete(self, job: Job) -> bytes:
        patience_s = self._first_byte_s + _TOKEN_S * job.max_tokens
        pool = self._pool(job.model)
        tried: list[Member] = []
        while True:
            member = _take(pool, job, tried)
            limit_s = patience_s if pool.has_other(tried) else None
            try:
                async with asyncio.timeout(limit_s):
                    answer = await self._engine.complete(job)
                member.note_answer()
                return answer
            except EngineRefused:
                member.note_answer()
                raise
            except (EngineFailed, TimeoutError) as error:
                _leave(pool, job, tried, error)
            finally:
                member.end()

    async def _stream(self, job: Job) -> AsyncGenerator[list[bytes], None]:
        pool = self._pool(job.model)
        tried: list[Member] = []
        while True:
            member = _take(pool, job, tried)
            limit_s = self._first_byte_s if pool.has_other(tried) else None
            try:
                async with aclosing(self._engine.stream(job)) as batches:
                    try:
                        async with asyncio.timeout(limit_s):
                            first = await anext(batches, None)
                    except (EngineFailed, TimeoutError) as error:
                        _leave(pool, job, tried, error)
                        continue
                    member.note_answer()
                    if first is not None:
                        yield first
                        async for batch in batches:
                            yield batch
                    return
            except EngineRefused:
                member.note_answer()
                raise
            except EngineFailed:
                if job.usage.completion_tokens:  # it died in mid-stream
                    pool.note_failure(member)
                raise
            finally:
                member.end()

    def _pool(self, model: Model) -> Pool:
        # A model that was changed or removed since the request began has none.
        return self._pools.get(model.real_name) or Pool(model.backends)

    def _refresh(self) -> None:
        """Makes the pools those of the registry; backends that stay keep what is known of them."""
        self._pools = {
            model.name: Pool(model.backends, self._pools.get(model.name))
            for model in self._registry.enabled()
            if model.engine is self._kind
        }
        self._checks.watch(member for pool in self._pools.values() for member in pool.members)

    def describe(self) -> Iterable[Metric]:
        """Nothing: Prometheus would else take two of these in one process for a mistake."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """What Prometheus sees of the backends of all models that can be called."""
        labels = ["model", "backend"]
        healthy = GaugeMetricFamily(
            "ias_inference_backend_healthy",
            "Whether it passes its checks and may get requests.",
            labels=labels,
        )
        in_flight = GaugeMetricFamily(
            "ias_inference_backend_in_flight", "Requests there now.", labels=labels
        )
        ejections = CounterMetricFamily(
            "ias_inference_backend_ejections", "Times that it was taken out.", labels=labels
        )
        retries = CounterMetricFamily(
            "ias_inference_backend_retries", "Requests that left it for another.", labels=labels
        )
        for name, pool in self._pools.items():
            for member, available in pool.states():
                of = [name, member.backend.url]
                healthy.add_metric(of, float(available))
                in_flight.add_metric(of, self._engine.in_flight(name, member.backend))
                ejections.add_metric(of, member.ejections)
                retries.add_metric(of, member.retries)
        return (healthy, in_flight, ejections, retries)


def _take(pool: Pool, job: Job, tried: list[Member]) -> Member:
    """Sends the job to a backend. Raises EngineFailed when none is left."""
    member = pool.choose(tried)
    if member is None:
        raise EngineFailed(job.model.name, "has no healthy backend")
    tried.append(member)
    member.begin()
    job.backend = member.backend
    return member


def _leave(pool: Pool, job: Job, tried: list[Member], error: EngineFailed | TimeoutError) -> None:
    """After a failure before the first byte: returns when another backend shall be tried."""
    member = tried[-1]
    pool.note_failure(member)
    if not pool.has_other(tried):
        if isinstance(error, EngineFailed):
            raise error
        raise EngineFailed(job.model.name, "stalled") from None
    member.retries += 1
    # Of what it may have produced, nobody has seen anything.
    usage = job.usage
    usage.prompt_tokens = usage.completion_tokens = usage.cached_tokens = 0
