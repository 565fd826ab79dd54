"""The servers that tests get are real, private and ready."""

import aio_pika
import asyncpg
from redis.asyncio import Redis


async def test_postgres_is_new_enough_and_its_user_may_create_databases(database_url):
    connection = await asyncpg.connect(database_url)
    try:
        assert connection.get_server_version().major >= 15
        assert await connection.fetchval("select usesuper from pg_user where usename = user")
    finally:
        await connection.close()


async def test_postgres_keeps_what_it_has_confirmed(database_url):
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("show fsync") == "on"
        assert await connection.fetchval("show synchronous_commit") == "on"
    finally:
        await connection.close()


async def test_redis_answers(redis_url):
    async with Redis.from_url(redis_url) as client:
        assert await client.ping()


async def test_rabbitmq_has_quorum_queues(amqp_url):
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(
            "tests.quorum", durable=True, arguments={"x-queue-type": "quorum"}
        )
        await queue.delete(if_unused=False, if_empty=False)
