"""The publisher against a real RabbitMQ: nothing leaves the spool before it is confirmed."""

import asyncio
import logging

import aio_pika
import pytest
from ias.metering.v1 import events_pb2 as pb

from ias_inference.adapters.publisher import Publisher
from ias_inference.adapters.publisher.topology import DEAD_LETTERS, EXCHANGE, QUEUE, ROUTING_KEY
from ias_inference.adapters.spool import Spool


@pytest.fixture
async def spool(tmp_path):
    async with Spool(str(tmp_path / "spool.db"), 10**9, 10**6) as spool:
        yield spool


@pytest.fixture
async def amqp(broker):
    """A channel of the test's own, and a broker without queues of ours."""
    connection = await aio_pika.connect(broker.url)
    channel = await connection.channel()
    for name in (QUEUE, DEAD_LETTERS):
        await channel.queue_delete(name)
    yield channel
    await connection.close()


async def record(spool, usage, count):
    usages = [usage() for _ in range(count)]
    await asyncio.gather(*(spool.record(one) for one in usages))
    return {one.event_id for one in usages}


async def until_empty(spool, timeout_s=30.0):
    async with asyncio.timeout(timeout_s):
        while spool._count:
            await asyncio.sleep(0.02)


async def received(channel):
    """All messages in the queue."""
    queue = await channel.get_queue(QUEUE, ensure=False)
    messages = []
    while message := await queue.get(fail=False, timeout=10):
        messages.append(message)
        await message.ack()
    return messages


def ids(messages):
    return [
        event.event_id
        for message in messages
        for event in pb.UsageEventBatch.FromString(message.body).events
    ]


async def test_events_arrive_in_persistent_batches_and_leave_the_spool(broker, amqp, spool, usage):
    sent = await record(spool, usage, 1200)
    async with Publisher(spool, broker.url):
        await until_empty(spool)
    messages = await received(amqp)
    assert sorted(ids(messages)) == sorted(sent)
    assert [len(ids([message])) for message in messages] == [500, 500, 200]
    assert {message.delivery_mode for message in messages} == {2}
    assert {message.content_type for message in messages} == {"application/x-protobuf"}
    assert spool.take(500) == []


async def test_closing_publishes_what_is_left(broker, amqp, spool, usage):
    async with Publisher(spool, broker.url):
        sent = await record(spool, usage, 700)
    assert spool._count == 0
    assert set(ids(await received(amqp))) == sent


@pytest.mark.parametrize("damage", ["queue deleted", "queue unbound", "exchange deleted"])
async def test_a_message_that_comes_back_is_sent_again(broker, amqp, spool, usage, damage):
    async with Publisher(spool, broker.url):
        sent = await record(spool, usage, 3)
        await until_empty(spool)
        if damage == "queue deleted":
            sent = set()
            await amqp.queue_delete(QUEUE)
        elif damage == "queue unbound":
            queue = await amqp.get_queue(QUEUE)
            await queue.unbind(EXCHANGE, ROUTING_KEY)
        else:
            await amqp.exchange_delete(EXCHANGE)
        sent |= await record(spool, usage, 3)
        await until_empty(spool)
    assert set(ids(await received(amqp))) == sent


async def test_nothing_is_removed_before_the_confirm(broker, amqp, spool, usage, monkeypatch):
    confirming = asyncio.Event()
    confirmed = asyncio.Event()
    publish = aio_pika.Exchange.publish

    async def late(self, *args, **kwargs):
        result = await publish(self, *args, **kwargs)
        confirming.set()
        await confirmed.wait()
        return result

    monkeypatch.setattr(aio_pika.Exchange, "publish", late)
    async with Publisher(spool, broker.url):
        await record(spool, usage, 1)
        await confirming.wait()
        assert spool._count == 1
        confirmed.set()
        await until_empty(spool)


async def test_a_publisher_that_was_closed_early_leaves_the_rest_to_the_next(
    broker, amqp, spool, usage
):
    sent = await record(spool, usage, 20)
    async with Publisher(spool, "amqp://guest:guest@127.0.0.1:1/"):
        pass
    assert spool._count == 20
    async with Publisher(spool, broker.url):
        await until_empty(spool)
    assert set(ids(await received(amqp))) == sent


async def test_no_password_is_logged_when_the_broker_refuses(spool, usage, capsys, caplog):
    caplog.set_level(logging.DEBUG)
    await record(spool, usage, 1)
    async with Publisher(spool, "amqp://somebody:canary-password@127.0.0.1:1/"):
        await asyncio.sleep(0.3)
    output = capsys.readouterr()
    assert "canary-password" not in output.out + output.err + caplog.text


async def test_a_stopped_broker_loses_nothing(broker, spool, usage, tmp_path):
    connection = await aio_pika.connect(broker.url)
    await (await connection.channel()).queue_delete(QUEUE)
    await connection.close()
    async with Publisher(spool, broker.url):
        sent = await record(spool, usage, 100)
        await until_empty(spool)
        sent |= await record(spool, usage, 100)  # on their way while the broker stops
        await broker.stop()
        sent |= await record(spool, usage, 1000)
        assert spool._count >= 1000
        await broker.start()
        sent |= await record(spool, usage, 100)
        await until_empty(spool)
    async with await aio_pika.connect(broker.url) as connection:
        arrived = ids(await received(await connection.channel()))
    assert set(arrived) == sent  # twice is fine: metering knows an event by its id
