"""The whole service as wired, over a real channel; RabbitMQ is away, which must not matter."""

from collections.abc import AsyncIterator

import grpc
import pytest
from ias_testing import MESH_SECRET, PUBLIC_KEY, free_address

from ias_metering import wiring
from ias_metering.settings import Settings
from ias_runtime import server
from ias_runtime.caller_token import CallerVerifier


@pytest.fixture(scope="session")
async def channel(metering_url: str) -> AsyncIterator[grpc.aio.Channel]:
    settings = Settings(
        database_url=metering_url,
        amqp_url="amqp://nobody:nothing@127.0.0.1:1/",
        caller_public_keys=PUBLIC_KEY,
        mesh_secret=MESH_SECRET,
        metering_listen=free_address(),
    )
    async with wiring.opening(settings) as service:
        running, _ = server.build(
            settings, service, CallerVerifier(settings.public_keys(), MESH_SECRET, service.name)
        )
        await running.start()
        async with grpc.aio.insecure_channel(service.listen) as opened:
            yield opened
        await running.stop(0)
