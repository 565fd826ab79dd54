"""The service as a process, killed with events in its queue: nothing lost, nothing twice."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ias.metering.v1 import events_pb2
from ias_testing import MESH_SECRET, PUBLIC_KEY, free_address
from metering_support import NOW, Ledger, event, scopes

from ias_metering.adapters.rabbitmq import topology
from ias_metering.domain.leases import Subject

BATCHES = 60
"""Of 50 events with 2 tokens, before each kill."""
TOTAL = 3 * BATCHES * 50 * 2


@asynccontextmanager
async def serving(url: str, amqp_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that serves; it may be dead already at the end."""
    address = free_address()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ias_metering",
        "serve",
        env={
            **os.environ,
            "IAS_DATABASE_URL": url,
            "IAS_AMQP_URL": amqp_url,
            "IAS_CALLER_PUBLIC_KEYS": PUBLIC_KEY,
            "IAS_MESH_SECRET": MESH_SECRET,
            "IAS_METERING_LISTEN": address,
            "IAS_METERING_METRICS_LISTEN": "",
            "IAS_DRAIN_S": "1",
            "IAS_LOG_LEVEL": "warning",
        },
    )
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            answer = await check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=30)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 20)


async def spent(ledger: Ledger, subject: Subject) -> int:
    return (await ledger.stand(scopes(subject)[0]))[0]


async def reaches(ledger: Ledger, subject: Subject, tokens: int, timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while await spent(ledger, subject) < tokens:
            await asyncio.sleep(0.005)


async def test_killed_amid_a_backlog_and_started_again_it_charges_each_event_once(
    ledger: Ledger, subject: Subject, metering_url: str, amqp_url: str
) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await topology.declare(channel)
        exchange = await channel.get_exchange(topology.EXCHANGE, ensure=False)
        for _ in range(3):
            before = await spent(ledger, subject)
            for _ in range(BATCHES):
                batch = events_pb2.UsageEventBatch(events=[event(subject, 2) for _ in range(50)])
                await exchange.publish(
                    aio_pika.Message(
                        batch.SerializeToString(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT
                    ),
                    topology.ROUTING_KEY,
                )
            async with serving(metering_url, amqp_url) as process:
                await reaches(ledger, subject, before + 1)
                process.kill()
        async with serving(metering_url, amqp_url) as process:
            await reaches(ledger, subject, TOTAL)
            one = events_pb2.UsageEventBatch(events=[event(subject, 1, at=NOW)])
            await exchange.publish(aio_pika.Message(one.SerializeToString()), topology.ROUTING_KEY)
            await reaches(ledger, subject, TOTAL + 1)
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 20) == 0
    assert await spent(ledger, subject) == TOTAL + 1
