"""What breaks or changes while Envoy runs: dead services, new clusters, secrets in the log."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from ias_front import KEY, Front, Recorder, http_body, running_front
from ias_testing import free_address

from ias_envoy.model import Cluster
from ias_envoy.render import render
from ias_envoy.watch import write


def change(front: Front, clusters: list[Cluster]) -> list[str]:
    return write(render(front.edge, clusters), front.edge.config_directory)


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not await true():
            await asyncio.sleep(0.01)


async def test_a_dead_engine_is_503_and_back_when_it_is_back(own_front: Front) -> None:
    await own_front.inference.stop()
    async with own_front.chat() as answer:
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        error = (await answer.json())["error"]
    assert error["code"] == "service_unavailable"
    assert "not reachable" in error["message"]
    async with own_front.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/ias.inference.v1.ModelService/ListModels")(
                b"", metadata=[("authorization", KEY)]
            )
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    async with own_front.ask("GET", "/api/v1/models") as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, 14)
    await own_front.inference.start(own_front.inference.address)

    async def answers() -> bool:
        async with own_front.chat() as answer:
            return bool(answer.status == 200)

    await until(answers)


async def test_without_identity_nobody_gets_through(own_front: Front) -> None:
    await own_front.identity.stop()
    async with own_front.chat() as answer:
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        error = (await answer.json())["error"]
    assert error["code"] == "service_unavailable"
    assert "Credentials can't be checked" in error["message"]
    async with own_front.ask("GET", "/api/v1/models") as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, 14)
    async with own_front.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/ias.inference.v1.ChatService/Chat")(
                b"", metadata=[("authorization", KEY)]
            )
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert own_front.reached == []


async def test_one_dead_process_of_two_costs_no_request(own_front: Front) -> None:
    both = (own_front.inference.address, free_address())
    others = [cluster for cluster in own_front.clusters if cluster.name != "inference"]
    assert change(own_front, [*others, Cluster("inference", both)]) == ["clusters.yaml"]
    for _ in range(100):
        async with own_front.chat() as answer:
            assert answer.status == 200


async def test_a_new_cluster_serves_without_a_failed_request(own_front: Front) -> None:
    second = Recorder("second")
    await second.start(free_address())
    others = [cluster for cluster in own_front.clusters if cluster.name != "inference"]
    going = True
    statuses: list[int] = []

    async def client() -> None:
        while going:
            async with own_front.chat() as answer:
                statuses.append(answer.status)

    gate, begun = asyncio.Event(), asyncio.Event()

    async def stream(_: bytes, __: Any) -> AsyncIterator[bytes]:
        yield http_body(b"begun", "text/event-stream")
        begun.set()
        await gate.wait()
        yield http_body(b"ended")

    own_front.inference.behaviours["CreateChatCompletion"] = stream
    async with own_front.chat() as running:
        assert await running.content.readexactly(5) == b"begun"
        own_front.inference.behaviours.clear()
        clients = [asyncio.create_task(client()) for _ in range(4)]
        for address in (second.address, own_front.inference.address, second.address):
            before = len(second.calls), len(own_front.inference.calls)
            change(own_front, [*others, Cluster("inference", (address,))])
            index = 0 if address == second.address else 1

            async def moved(before: tuple[int, int] = before, index: int = index) -> bool:
                now = len(second.calls), len(own_front.inference.calls)
                return now[index] > before[index]

            await until(moved)
        going = False
        await asyncio.gather(*clients)
        gate.set()
        assert await running.read() == b"ended"
    assert set(statuses) == {200}
    await second.stop()


async def test_a_cluster_that_identity_names_is_usable_once_written(own_front: Front) -> None:
    async with own_front.chat("elsewhere") as answer:
        assert answer.status == 503
    change(own_front, [*own_front.clusters, Cluster("nowhere", (own_front.metering.address,))])

    async def answers() -> bool:
        async with own_front.chat("elsewhere") as answer:
            return bool(answer.status == 200)

    await until(answers)
    assert own_front.inference.calls == []
    assert len(own_front.metering.calls) == 1


async def test_a_changed_limit_is_in_force_while_it_runs(own_front: Front) -> None:
    own_front.edge = replace(own_front.edge, cors_origins=("https://new.example",))
    assert change(own_front, own_front.clusters) == ["routes.yaml"]

    async def allows() -> bool:
        async with own_front.chat(headers={"origin": "https://new.example"}) as answer:
            return "access-control-allow-origin" in answer.headers

    await until(allows)


async def test_the_access_log_tells_what_happened_but_no_secret(tmp_path: Path) -> None:
    async with running_front(tmp_path) as front:
        async with front.ask(
            "POST", "/v1/chat/completions?key=canary", json={"model": "m"}
        ) as answer:
            request_id = answer.headers["x-request-id"]
        async with front.http.get(
            front.url("/v1/models"), headers={"authorization": "Bearer canary", "cookie": "canary"}
        ):
            pass
    text = (tmp_path / "access.log").read_text()
    assert "canary" not in text
    assert "good" not in text
    served, refused = (json.loads(line) for line in text.splitlines())
    assert served["request_id"] == request_id
    assert (served["method"], served["path"]) == ("POST", "/v1/chat/completions")
    assert (served["status"], served["upstream"]) == (200, "inference")
    assert (refused["status"], refused["flags"]) == (401, "UAEX")


async def test_tls_serves_http1_http2_and_grpc(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    async with running_front(tmp_path, certificate=certificate[0], key=certificate[1]) as front:
        trusted = ssl.create_default_context(cafile=str(certificate[0]))
        url = front.url("/v1/models").replace("http:", "https:")
        headers = {"authorization": KEY}
        async with front.http.get(url, headers=headers, ssl=trusted) as answer:
            assert answer.status == 200
        credentials = grpc.ssl_channel_credentials(certificate[0].read_bytes())
        async with grpc.aio.secure_channel(front.edge.listen, credentials) as channel:
            call = channel.unary_unary("/ias.inference.v1.ModelService/ListModels")
            await call(b"", metadata=[("authorization", KEY)])
        with suppress(aiohttp.ClientConnectionError):
            async with front.http.get(front.url("/healthz")) as plain:
                pytest.fail(f"plain text was answered with {plain.status}")
    assert len(front.reached) == 2
