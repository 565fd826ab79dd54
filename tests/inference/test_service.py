"""The process as it is started: `ias-inference migrate`, `ias-inference serve`."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import grpc
import ias_testing
import pytest
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ias.inference.v1 import models_pb2, models_pb2_grpc, openai_pb2_grpc
from inference_support import HttpAnswer, a_caller, an_admin


@pytest.fixture
async def environment(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """A fresh database, a spool, and neither metering nor RabbitMQ."""
    server = os.environ["IAS_TEST_DATABASE_URL"]
    name = f"inference_{uuid.uuid4().hex[:8]}"
    connection = await asyncpg.connect(server)
    await connection.execute(f'create database "{name}"')
    yield os.environ | {
        "IAS_DATABASE_URL": server.rpartition("/")[0] + f"/{name}",
        "IAS_AMQP_URL": "amqp://guest:guest@127.0.0.1:1/",
        "IAS_METERING_TARGET": "127.0.0.1:1",
        "IAS_CALLER_PUBLIC_KEYS": ias_testing.PUBLIC_KEY,
        "IAS_MESH_SECRET": ias_testing.MESH_SECRET,
        "IAS_INFERENCE_LISTEN": ias_testing.free_address(),
        "IAS_INFERENCE_METRICS_LISTEN": ias_testing.free_address(),
        "IAS_INFERENCE_SPOOL": str(tmp_path / "spool.sqlite"),
    }
    await connection.execute(f'drop database "{name}" with (force)')
    await connection.close()


async def start(command: str, environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ias_inference",
        command,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_it_migrates_serves_and_drains(environment: dict[str, str]) -> None:
    for _ in range(2):  # the second time changes nothing
        assert await (await start("migrate", environment)).wait() == 0
    process = await start("serve", environment)
    try:
        async with grpc.aio.insecure_channel(environment["IAS_INFERENCE_LISTEN"]) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            answer = await health.Check(
                health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=20
            )
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            model = models_pb2.Model(name="mock-gpt", backend={"engine": "ENGINE_KIND_MOCK"})  # type: ignore[arg-type]
            await models_pb2_grpc.ModelServiceStub(channel).CreateModel(
                models_pb2.CreateModelRequest(model=model), metadata=ias_testing.signed(an_admin())
            )
            openai = openai_pb2_grpc.OpenAIServiceStub(channel)
            headers = ias_testing.signed(a_caller())
            async with asyncio.timeout(2):
                while True:
                    found = await HttpAnswer.of(openai.ListModels(Empty(), metadata=headers))
                    if [shown["id"] for shown in found.json["data"]] == ["mock-gpt"]:
                        break
            await _assert_nothing_is_served_unmetered(openai, headers)
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0
        assert b"stopped" in output
        assert ias_testing.MESH_SECRET.encode() not in output
    finally:
        if process.returncode is None:
            process.kill()


async def _assert_nothing_is_served_unmetered(
    openai: openai_pb2_grpc.OpenAIServiceStub, headers: tuple[tuple[str, str], ...]
) -> None:
    from google.api.httpbody_pb2 import HttpBody

    body = b'{"model":"mock-gpt","messages":[{"role":"user","content":"Hi"}]}'
    request = HttpBody(content_type="application/json", data=body)
    answer = await HttpAnswer.of(openai.CreateChatCompletion(request, metadata=headers))
    assert answer.status == 503
    assert answer.error["code"] == "service_unavailable"
    assert "retry-after" in answer.headers
