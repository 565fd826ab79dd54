"""How fast the ledger is: usage events a second from the queue, and leases a second.

    python tests/bench/ledger.py [--events N] [--leases N]

Uses the servers in IAS_TEST_DATABASE_URL and IAS_TEST_AMQP_URL, in a database and queues of its own.
Figures depend on the machine; compare them within one run only.
"""

import argparse
import asyncio
import os
import random
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import aio_pika
import asyncpg
from ias.metering.v1 import events_pb2

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))
from metering_support import event, new_subject, scopes

from ias_metering.__main__ import migrate
from ias_metering.adapters.postgres.budgets import PostgresBudgets
from ias_metering.adapters.postgres.events import PostgresEvents
from ias_metering.adapters.postgres.leases import PostgresLeases
from ias_metering.adapters.rabbitmq import topology
from ias_metering.adapters.rabbitmq.events import UsageConsumer
from ias_metering.domain.leases import LeaseTimes, Subject
from ias_runtime import postgres

BATCH = 500
ORGANIZATIONS, KEYS = 20, 50


def now() -> datetime:
    return datetime.now(UTC)


def batches(count: int, subjects: list[Subject]) -> list[bytes]:
    """Messages as a busy inference process sends them: a few keys in each."""
    made = []
    for _ in range(count // BATCH):
        few = random.sample(subjects, 20)
        events = [event(random.choice(few), 200, at=now()) for _ in range(BATCH)]
        made.append(events_pb2.UsageEventBatch(events=events).SerializeToString())
    return made


async def measure_events(url: str, amqp_url: str, count: int, subjects: list[Subject]) -> None:
    for name in ("EXCHANGE", "QUEUE", "DEAD_LETTERS"):
        setattr(topology, name, f"{getattr(topology, name)}.bench")
    bodies = batches(count, subjects)
    async with (
        postgres.pool(url, application="bench", max_size=6) as pool,
        await aio_pika.connect(amqp_url) as connection,
    ):
        channel = await connection.channel()
        queue = await topology.declare(channel)
        await queue.purge()
        exchange = await channel.get_exchange(topology.EXCHANGE, ensure=False)
        for body in bodies:
            await exchange.publish(
                aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT),
                topology.ROUTING_KEY,
            )
        started = time.perf_counter()
        cpu = time.process_time()
        task = asyncio.create_task(UsageConsumer(amqp_url, PostgresEvents(pool), now).run())
        total = "select coalesce(sum(requests), 0)::bigint from metering.usage_daily"
        while await pool.fetchval(total) < len(bodies) * BATCH:
            await asyncio.sleep(0.02)
        elapsed = time.perf_counter() - started
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for name in (topology.QUEUE, topology.DEAD_LETTERS):
            await channel.queue_delete(name)
        for name in (topology.EXCHANGE, topology.DEAD_LETTERS):
            await channel.exchange_delete(name)
    rate = len(bodies) * BATCH / elapsed
    busy = (time.process_time() - cpu) / elapsed
    print(f"events from queue to ledger   {rate:>9,.0f}/s   (Python busy {busy:.0%})")


async def measure_leases(
    url: str, name: str, count: int, at_once: int, subjects: list[Subject]
) -> None:
    async with postgres.pool(url, application="bench", max_size=16) as pool:
        leases = PostgresLeases(pool, LeaseTimes())
        left = iter(range(count))

        async def holder() -> None:
            for _ in left:
                grant = await leases.acquire(random.choice(subjects), "bench", 1, 1000, now())
                await leases.release(grant.lease_id, 0, now())

        started = time.perf_counter()
        await asyncio.gather(*(holder() for _ in range(at_once)))
        rate = count / (time.perf_counter() - started)
        standing = await PostgresBudgets(pool).get(scopes(subjects[0])[0], now())
        assert standing.leased == 0
    print(f"{name:<29} {rate:>9,.0f}/s   (each acquired and released)")


async def main(options: argparse.Namespace, url: str) -> None:
    organizations = [str(uuid.uuid4()) for _ in range(ORGANIZATIONS)]
    subjects = [new_subject(organization) for organization in organizations for _ in range(KEYS)]
    amqp_url = os.environ["IAS_TEST_AMQP_URL"]
    await measure_events(url, amqp_url, options.events, subjects)
    await measure_leases(url, "leases, one at a time", options.leases // 4, 1, subjects)
    await measure_leases(url, "leases, 16 at once", options.leases, 16, subjects)
    await measure_leases(url, "leases, 16 at once, one org", options.leases, 16, subjects[:KEYS])


async def on_server(sql: str) -> None:
    connection = await asyncpg.connect(os.environ["IAS_TEST_DATABASE_URL"])
    await connection.execute(sql)
    await connection.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--leases", type=int, default=2_000)
    name = f"bench_{uuid.uuid4().hex[:12]}"
    asyncio.run(on_server(f"create database {name}"))
    database = f"{os.environ['IAS_TEST_DATABASE_URL'].rpartition('/')[0]}/{name}"
    try:
        migrate(database)
        asyncio.run(main(parser.parse_args(), database))
    finally:
        asyncio.run(on_server(f"drop database {name} with (force)"))
