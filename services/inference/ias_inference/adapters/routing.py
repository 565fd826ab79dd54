"""Publishes the routing table in Redis (ias.inference.v1.RoutingTable), for identity and Envoy.

Every process publishes, and none depends on another: whoever has the newer version writes it. While
Redis is away, readers go on with what they have; when it comes back empty, it is filled again.
"""

import asyncio
from types import TracebackType
from typing import Self

import redis.asyncio as redis
import structlog
from ias.inference.v1 import routing_pb2
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ias_inference.domain.models import CLUSTER, Model, Registry

KEY = "ias.models.routing"
"""A hash of `registry`, `version` and `table`."""
REFRESH_S = 2.0
_TIMEOUT_S = 2.0
_STORE = """
local at = redis.call('hmget', KEYS[1], 'registry', 'version')
if at[1] == ARGV[1] and at[2] and tonumber(at[2]) >= tonumber(ARGV[2]) then return 0 end
redis.call('hset', KEYS[1], 'registry', ARGV[1], 'version', ARGV[2], 'table', ARGV[3])
return 1
"""
"""Never an older version over a newer one of the same registry."""
log = structlog.get_logger()


class RoutingPublisher:
    """Publishes the registry's routes while open."""

    def __init__(self, redis_url: str, registry: Registry) -> None:
        self._client = redis.Redis.from_url(
            redis_url,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._registry = registry
        self._changed = asyncio.Event()
        self._failing = False
        self._task: asyncio.Task[None]
        registry.subscribe(self._changed.set)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="routing publisher")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._client.aclose()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self._publish()
                self._failing = False
            except (redis.RedisError, OSError, TimeoutError) as error:
                if not self._failing:
                    log.warning("routing table not published", cause=repr(error))
                self._failing = True
            try:
                async with asyncio.timeout(REFRESH_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _publish(self) -> None:
        registry = self._registry
        if not registry.id:
            return
        known, version = await self._client.hmget(KEY, ["registry", "version"])
        if (
            known == registry.id.encode()
            and version is not None
            and int(version) >= registry.version
        ):
            return
        stored = table(registry).SerializeToString()
        await self._client.eval(_STORE, 1, KEY, registry.id, registry.version, stored)


def table(registry: Registry) -> routing_pb2.RoutingTable:
    """The enabled models, and where they are served."""
    return routing_pb2.RoutingTable(
        registry_id=registry.id,
        version=registry.version,
        models=map(_route, registry.enabled()),
    )


def _route(model: Model) -> routing_pb2.ModelRoute:
    route = routing_pb2.ModelRoute(
        name=model.name, aliases=model.aliases, organization_ids=model.organization_ids
    )
    if model.cluster != CLUSTER:
        route.cluster = model.cluster
        for backend in model.backends:
            route.endpoints.add(address=backend.address, weight=backend.weight)
    return route
