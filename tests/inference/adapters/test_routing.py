"""The routing table in Redis: what identity and Envoy go by."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio as redis
from ias.inference.v1 import routing_pb2

from ias_inference.adapters import routing
from ias_inference.adapters.routing import KEY, RoutingPublisher
from ias_inference.domain.models import Backend, EngineKind, Model, Registry


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.Redis]:
    async with redis.Redis.from_url(redis_url) as opened:
        await opened.delete(KEY)
        yield opened
        await opened.delete(KEY)


def a_model(name: str, *urls: str, **facts: Any) -> Model:
    kind = EngineKind.VLLM if urls else EngineKind.MOCK
    backends = tuple(Backend(kind, url, name, weight=2) for url in urls or ("",))
    return Model(name=name, backends=backends, **facts)


async def published(client: redis.Redis, version: int) -> routing_pb2.RoutingTable:
    async with asyncio.timeout(5):
        while True:
            stored = await client.hgetall(KEY)
            if stored.get(b"version") == str(version).encode():
                return routing_pb2.RoutingTable.FromString(stored[b"table"])
            await asyncio.sleep(0.01)


async def test_every_enabled_model_is_published_with_what_routing_needs(
    client: redis.Redis, redis_url: str
) -> None:
    registry, identifier = Registry(), str(uuid.uuid4())
    async with RoutingPublisher(redis_url, registry):
        models = [
            a_model("plain", aliases=("p",), organization_ids=("o",)),
            a_model("fast", "grpc://10.0.0.1:1", "grpc://10.0.0.2:2"),
            a_model("off", "grpc://10.0.0.3:3", enabled=False),
        ]
        registry.replace(models, identifier=identifier, version=7)
        table = await published(client, 7)
        fast, plain = table.models
        assert (table.registry_id, plain.name, plain.cluster) == (identifier, "plain", "")
        assert (list(plain.aliases), list(plain.organization_ids)) == (["p"], ["o"])
        assert (fast.cluster, len(fast.endpoints)) == ("model:fast", 2)
        assert (fast.endpoints[1].address, fast.endpoints[1].weight) == ("10.0.0.2:2", 2)
        registry.replace([], identifier=identifier, version=8)
        assert not (await published(client, 8)).models


async def test_a_process_that_lags_behind_writes_nothing_over_the_newer(
    client: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "REFRESH_S", 0.05)
    new, old, identifier = Registry(), Registry(), str(uuid.uuid4())
    async with RoutingPublisher(redis_url, new), RoutingPublisher(redis_url, old):
        new.replace([a_model("new")], identifier=identifier, version=2)
        await published(client, 2)
        old.replace([a_model("old")], identifier=identifier, version=1)
        await asyncio.sleep(0.3)
        assert (await published(client, 2)).models[0].name == "new"
    other = Registry()
    async with RoutingPublisher(redis_url, other):
        # Another registry, as after the database was made anew, begins at 1 again.
        other.replace([a_model("anew")], identifier=str(uuid.uuid4()), version=1)
        assert (await published(client, 1)).models[0].name == "anew"


async def test_an_emptied_redis_is_filled_again(
    client: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "REFRESH_S", 0.05)
    registry = Registry()
    registry.replace([a_model("m")], identifier=str(uuid.uuid4()), version=3)
    async with RoutingPublisher(redis_url, registry):
        await published(client, 3)
        await client.delete(KEY)
        assert (await published(client, 3)).models[0].name == "m"
