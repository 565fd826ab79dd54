"""Follows the routing table that inference publishes in Redis (ias.inference.v1.RoutingTable)."""

import asyncio
import contextlib
from typing import Any

import redis.asyncio as redis
import structlog
from google.protobuf.message import DecodeError
from ias.inference.v1 import routing_pb2

from ias_identity.adapters.redis.breaker import Breaker, Down
from ias_identity.domain.model_routes import ModelRoute, ModelRoutes

KEY = "ias.models.routing"
"""A hash of `registry`, `version` and `table`."""
POLL_S = 0.5
SETTLE_S = 0.7
"""Before a change is acted upon: Envoy must know a cluster before requests are sent there."""
log = structlog.get_logger()


class RedisModelRoutes:
    """Keeps ModelRoutes fresh. While Redis is away, they stay as they were."""

    def __init__(self, client: redis.Redis, breaker: Breaker, routes: ModelRoutes) -> None:
        self._client = client
        self._breaker = breaker
        self._routes = routes
        self._seen: tuple[bytes, bytes] | None = None

    async def run(self) -> None:
        """Polls until cancelled."""
        while True:
            with contextlib.suppress(Down):
                await self._poll()
            await asyncio.sleep(POLL_S)

    async def _poll(self) -> None:
        seen = await self._read("registry", "version")
        if None in seen or tuple(seen) == self._seen:
            return
        if self._seen is not None:
            await asyncio.sleep(SETTLE_S)
        registry, version, stored = await self._read("registry", "version", "table")
        if registry is None or version is None or stored is None:
            return
        try:
            table = routing_pb2.RoutingTable.FromString(stored)
        except DecodeError:
            log.warning("routing table not understood")
        else:
            self._routes.replace(map(_route, table.models))
        self._seen = (registry, version)

    async def _read(self, *fields: str) -> list[bytes | None]:
        found: list[bytes | None] = await self._breaker.run(
            self._client.hmget(KEY, list(fields))  # type: ignore[arg-type]
        )
        return found


def _route(message: Any) -> ModelRoute:
    return ModelRoute(
        name=message.name,
        aliases=tuple(message.aliases),
        organization_ids=frozenset(message.organization_ids),
        cluster=message.cluster,
    )
