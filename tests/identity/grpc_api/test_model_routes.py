"""What inference publishes of its registry decides whom a key reaches, and where."""

import os
import uuid
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis
from ias.inference.v1 import routing_pb2 as pb
from identity_support import Check, Identity, Tenant

from ias_identity.adapters.redis.model_routes import KEY

JSON = {"path": "/v1/chat/completions"}
GRPC = {
    "path": "/ias.inference.v1.ChatService/Chat",
    "method": "POST",
    "content_type": "application/grpc",
}


class Registry:
    """Publishes as inference does."""

    def __init__(self, client: redis.Redis, identity: Identity) -> None:
        self.client, self.identity = client, identity
        self.id, self.version = str(uuid.uuid4()), 0

    async def publish(self, *models: pb.ModelRoute) -> None:
        self.version += 1
        table = pb.RoutingTable(registry_id=self.id, version=self.version, models=models)
        fields = {"registry": self.id, "version": self.version}
        await self.client.hset(KEY, mapping=fields | {"table": table.SerializeToString()})


@pytest.fixture
async def registry(identity: Identity) -> AsyncIterator[Registry]:
    async with redis.Redis.from_url(os.environ["IAS_TEST_REDIS_URL"]) as client:
        found = Registry(client, identity)
        yield found
        await found.publish()
        await client.delete(KEY)


@pytest.mark.parametrize("path", [JSON, GRPC], ids=["http", "grpc"])
async def test_a_model_with_adapters_is_sent_to_them_by_every_of_its_names(
    registry: Registry, tenant: Tenant, check: Check, until, path
) -> None:
    key = await tenant.new_key()

    async def upstream(model: str, **facts: object) -> str:
        return (await check(key.secret, model=model, **(path | facts))).headers["x-ias-upstream"]

    assert await upstream("big") == "inference"
    await registry.publish(pb.ModelRoute(name="big", aliases=["b"], cluster="model:big"))
    await until(lambda: upstream("big"), "model:big")
    assert await upstream("b") == "model:big"
    assert await upstream("other") == "inference"
    read = await check(key.secret, path="/v1/models/big", method="GET", content_type="")
    assert read.headers["x-ias-upstream"] == "inference", "which knows the registry"
    await registry.publish()
    await until(lambda: upstream("big"), "inference")


async def test_a_key_that_lists_a_model_may_use_its_aliases_and_one_that_lists_an_alias_only_that(
    registry: Registry, tenant: Tenant, check: Check, until
) -> None:
    by_name = await tenant.new_key(allowed_models=["real"])
    by_alias = await tenant.new_key(allowed_models=["short"])

    async def allowed(key, model: str) -> bool:
        verdict = await check(key.secret, model=model, **JSON)
        assert verdict.allowed or verdict.json["error"]["code"] == "model_not_found"
        assert not verdict.allowed or verdict.caller.model == model
        return verdict.allowed

    assert not await allowed(by_name, "short")
    await registry.publish(pb.ModelRoute(name="real", aliases=["short", "brief"]))
    await until(lambda: allowed(by_name, "short"), True)
    assert await allowed(by_name, "brief")
    assert await allowed(by_name, "real")
    assert await allowed(by_alias, "short")
    assert not await allowed(by_alias, "real")
    assert not await allowed(by_alias, "brief")


async def test_other_organisations_are_sent_where_unknown_models_are(
    registry: Registry, tenant: Tenant, identity: Identity, check: Check, until
) -> None:
    other = await identity.new_tenant()
    ours, theirs = await tenant.new_key(), await other.new_key()
    await registry.publish(
        pb.ModelRoute(name="private", organization_ids=[tenant.id], cluster="model:private")
    )

    async def upstream(key) -> str:
        return (await check(key.secret, model="private", **JSON)).headers["x-ias-upstream"]

    await until(lambda: upstream(ours), "model:private")
    assert await upstream(theirs) == "inference"


async def test_what_was_known_stays_known_when_redis_has_forgotten_it(
    registry: Registry, tenant: Tenant, check: Check, until
) -> None:
    key = await tenant.new_key()

    async def upstream(model: str) -> str:
        return (await check(key.secret, model=model, **JSON)).headers["x-ias-upstream"]

    await registry.publish(pb.ModelRoute(name="kept", cluster="model:kept"))
    await until(lambda: upstream("kept"), "model:kept")
    await registry.client.delete(KEY)
    await registry.client.hset(KEY, mapping={"registry": "x", "version": 1, "table": b"\xff\xff"})
    # Another table behind the nonsense shows that it was read, and changed nothing.
    registry.version += 1
    await registry.publish(
        pb.ModelRoute(name="kept", cluster="model:kept"),
        pb.ModelRoute(name="new", cluster="model:new"),
    )
    seen = set()

    async def both() -> str:
        seen.add(await upstream("kept"))
        return await upstream("new")

    await until(both, "model:new")
    assert seen == {"model:kept"}
