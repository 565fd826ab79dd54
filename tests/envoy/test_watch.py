"""`ias-envoy watch`: models with adapters of their own get clusters while Envoy runs."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis
from ias.inference.v1 import routing_pb2 as pb
from ias_front import Front, Recorder, http_body
from ias_testing import free_address

from ias_envoy import adapters
from ias_envoy.adapters import KEY, AdapterClusters, clusters_of, written
from ias_envoy.model import Cluster
from ias_envoy.render import render
from ias_envoy.watch import write

CHAT = "/ias.inference.v1.ChatService/Chat"


class Published:
    """What inference would publish."""

    def __init__(self, client: redis.Redis) -> None:
        self.client, self.id, self.version = client, str(uuid.uuid4()), 0

    async def models(self, **addresses: str) -> None:
        self.version += 1
        table = pb.RoutingTable(registry_id=self.id, version=self.version)
        for name, address in addresses.items():
            route = table.models.add(name=name, cluster=f"model:{name}")
            route.endpoints.add(address=address, weight=2)
        fields = {"registry": self.id, "version": self.version, "table": table.SerializeToString()}
        await self.client.hset(KEY, mapping=fields)


@asynccontextmanager
async def watching(front: Front, redis_url: str) -> AsyncIterator[None]:
    """The command, beside a running Envoy."""
    targets = {f"IAS_{one.name.upper()}_TARGET": one.endpoints[0] for one in front.clusters}
    environment = {**os.environ, **targets, "IAS_REDIS_URL": redis_url}
    out = str(front.edge.config_directory)
    process = subprocess.Popen(
        [sys.executable, "-m", "ias_envoy", "watch", "--out", out], env=environment
    )
    try:
        yield
        assert process.poll() is None, "it goes on"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
async def published(redis_url: str) -> AsyncIterator[Published]:
    async with redis.Redis.from_url(redis_url) as client:
        await client.delete(KEY)
        yield Published(client)
        await client.delete(KEY)


async def reaches(front: Front, model: str, adapter: Recorder) -> None:
    """Returns once requests for the model arrive at the adapter, by HTTP and by native gRPC."""
    front.authorization.upstreams[model] = f"model:{model}"
    async with asyncio.timeout(10), front.channel() as channel:
        while True:
            before = len(adapter.calls)
            async with front.chat(model) as answer:
                status = answer.status
            if status == 200:
                break
            assert status == 503, "unknown to Envoy yet"
            await asyncio.sleep(0.02)
        assert len(adapter.calls) == before + 1
        call = channel.unary_unary(CHAT)
        await call(b"\x0a" + bytes([len(model)]) + model.encode(), metadata=front.key)
        assert [one.method for one in adapter.calls[before:]] == [
            "/ias.inference.v1.OpenAIService/CreateChatCompletion",
            CHAT,
        ]


async def test_a_model_that_comes_is_reached_directly_and_others_are_not_touched(
    own_front: Front, published: Published, redis_url: str
) -> None:
    one, two = Recorder("one"), Recorder("two")
    await one.start(free_address())
    await two.start(free_address())
    async with watching(own_front, redis_url):
        await published.models(a=one.address)
        await reaches(own_front, "a", one)
        gate = asyncio.Event()

        async def slowly(_: bytes, __: Any) -> AsyncIterator[bytes]:
            yield http_body(b"data: begun\n\n", "text/event-stream")
            await gate.wait()
            yield http_body(b"data: ended\n\n", "text/event-stream")

        one.behaviours["CreateChatCompletion"] = slowly
        async with own_front.chat("a") as running:
            assert await running.content.readuntil(b"\n\n") == b"data: begun\n\n"
            await published.models(a=one.address, b=two.address)
            await reaches(own_front, "b", two)
            await published.models(a=two.address, b=two.address)
            two.calls.clear()
            async with asyncio.timeout(10):
                while not two.calls:
                    async with own_front.chat("a") as moved:
                        assert moved.status == 200
            gate.set()
            assert await running.content.read() == b"data: ended\n\n", "the stream survived"
    assert own_front.inference.calls == [], "nothing passed through another process"
    await one.stop()
    await two.stop()


async def test_a_running_stream_survives_the_removal_of_its_cluster(
    own_front: Front,
) -> None:
    adapter, gate = Recorder("adapter"), asyncio.Event()
    await adapter.start(free_address())

    async def slowly(_: bytes, __: Any) -> AsyncIterator[bytes]:
        yield http_body(b"data: begun\n\n", "text/event-stream")
        await gate.wait()
        yield http_body(b"data: ended\n\n", "text/event-stream")

    adapter.behaviours["CreateChatCompletion"] = slowly

    def has(*clusters: Cluster) -> None:
        files = render(own_front.edge, [*own_front.clusters, *clusters])
        write(files, own_front.edge.config_directory)

    has(Cluster("model:a", (adapter.address,)))
    own_front.authorization.upstreams["a"] = "model:a"
    async with asyncio.timeout(10):
        while True:
            async with own_front.chat("a") as running:
                if running.status != 200:
                    continue
                assert await running.content.readuntil(b"\n\n") == b"data: begun\n\n"
                has()
                while True:
                    async with own_front.chat("a") as refused:
                        if refused.status == 503:
                            break
                        refused.close()
                gate.set()
                assert await running.content.read() == b"data: ended\n\n"
                break
    await adapter.stop()


async def test_rendering_anew_keeps_what_the_watch_has_added(
    own_front: Front, published: Published, redis_url: str
) -> None:
    directory = own_front.edge.config_directory
    async with watching(own_front, redis_url):
        await published.models(a="127.0.0.1:1", v6="[::1]:2")
        async with asyncio.timeout(10):
            while not written(directory):
                await asyncio.sleep(0.02)
    expected = [
        Cluster("model:a", ("127.0.0.1:1",), (2,)),
        Cluster("model:v6", ("[::1]:2",), (2,)),
    ]
    assert written(directory) == expected
    subprocess.run(
        [sys.executable, "-m", "ias_envoy", "render", "--out", directory],
        check=True,
        capture_output=True,
    )
    assert written(directory) == expected


def test_a_cluster_that_is_gone_lingers_for_those_who_do_not_know_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = Cluster("model:a", ("h:1",), (1,)), Cluster("model:b", ("h:2",), (1,))
    held = AdapterClusters([b])
    held.update([a, b])
    assert held.current() == [a, b]
    held.update([b])
    assert held.current() == [a, b]
    held.update([a, b])
    held.update([a])
    monkeypatch.setattr(adapters, "LINGER_S", 0.0)
    assert held.current() == [a]


def test_what_envoy_could_only_misunderstand_is_left_out() -> None:
    table = pb.RoutingTable()
    for name, cluster, address in (
        ("plain", "", ""),
        ("good", "model:good", "host:1"),
        ("bad", "model:bad", "host"),
        ("empty", "model:empty", None),
        ("sly", "identity", "host:1"),
    ):
        route = table.models.add(name=name, cluster=cluster)
        if address is not None:
            route.endpoints.add(address=address)
    assert clusters_of(table) == [Cluster("model:good", ("host:1",), (1,))]


def test_without_redis_the_command_says_what_it_needs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ias_envoy", "watch", "--out", tmp_path],
        env={name: value for name, value in os.environ.items() if name != "IAS_REDIS_URL"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "IAS_REDIS_URL" in done.stderr
