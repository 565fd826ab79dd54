"""The consumer on a real RabbitMQ: killed, cut off, fed garbage; each event is charged once."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from cable import Cable
from ias.metering.v1 import events_pb2
from metering_support import Ledger, event, new_subject, scopes

from ias_metering.adapters.rabbitmq import topology
from ias_metering.adapters.rabbitmq.events import UsageConsumer
from ias_metering.domain.events import Received, Settlement
from ias_metering.domain.leases import Subject


def clock() -> datetime:
    return datetime(2040, 1, 1, tzinfo=UTC)


@pytest.fixture
async def vhost(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Names of this test's own, so that no other test's consumer takes its messages."""
    suffix = uuid.uuid4().hex[:8]
    for name in ("EXCHANGE", "QUEUE", "DEAD_LETTERS"):
        monkeypatch.setattr(topology, name, f"{getattr(topology, name)}.{suffix}")
    yield amqp_url
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        for queue in (topology.QUEUE, topology.DEAD_LETTERS):
            await channel.queue_delete(queue)
        for exchange in (topology.EXCHANGE, topology.DEAD_LETTERS):
            await channel.exchange_delete(exchange)


@pytest.fixture
async def channel(vhost: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(vhost) as connection:
        channel = await connection.channel()
        await topology.declare(channel)
        yield channel


async def publish(channel: AbstractChannel, *events: events_pb2.UsageEvent) -> None:
    await publish_body(channel, events_pb2.UsageEventBatch(events=events).SerializeToString())


async def publish_body(channel: AbstractChannel, body: bytes) -> None:
    exchange = await channel.get_exchange(topology.EXCHANGE, ensure=False)
    message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
    await exchange.publish(message, topology.ROUTING_KEY, mandatory=True)


async def waiting(channel: AbstractChannel, queue: str) -> int:
    declared = await channel.declare_queue(queue, passive=True)
    return declared.declaration_result.message_count or 0


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 15) -> None:
    """Returns as soon as the condition holds."""
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def consuming(url: str, events: object) -> AsyncIterator[asyncio.Task[None]]:
    consumer = UsageConsumer(url, events, clock)  # type: ignore[arg-type]
    task = asyncio.create_task(consumer.run())
    try:
        await asyncio.wait_for(consumer.ready.wait(), 15)
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def spent_is(ledger: Ledger, subject: Subject, tokens: int) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return (await ledger.stand(scopes(subject)[0]))[0] == tokens

    return check


async def test_an_event_is_charged_soon_after_it_arrives(
    ledger: Ledger, subject: Subject, vhost: str, channel: AbstractChannel
) -> None:
    async with consuming(vhost, ledger.events):
        await publish(channel, event(subject, 10))
        await until(spent_is(ledger, subject, 10), timeout_s=2)


async def test_every_event_five_times_shuffled_to_two_consumers_is_charged_once(
    ledger: Ledger, vhost: str, channel: AbstractChannel
) -> None:
    organization = new_subject()
    subjects = [new_subject(organization.organization_id) for _ in range(4)]
    events = [event(random.choice(subjects), random.randint(1, 99)) for _ in range(100)]
    deliveries = events * 5
    random.shuffle(deliveries)
    total = sum(e.prompt_tokens + e.completion_tokens for e in events)
    async with consuming(vhost, ledger.events), consuming(vhost, ledger.events):
        for start in range(0, 500, 7):
            await publish(channel, *deliveries[start : start + 7])
        await until(spent_is(ledger, subjects[0], total))
        await until(lambda: nothing_left(channel))
    assert await spent_is(ledger, subjects[0], total)()


async def nothing_left(channel: AbstractChannel) -> bool:
    return await waiting(channel, topology.QUEUE) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xff garbage",
        b"",
        events_pb2.UsageEventBatch(events=[events_pb2.UsageEvent()]).SerializeToString(),
        events_pb2.UsageEventBatch(
            events=[event(new_subject(), 1), event(new_subject(), 1, prompt_tokens=-5)]
        ).SerializeToString(),
        events_pb2.UsageEventBatch(
            events=[event(new_subject(), 1, user_id="' or 1=1")]
        ).SerializeToString(),
        events_pb2.UsageEventBatch(events=[event(new_subject(), 1)] * 501).SerializeToString(),
    ],
    ids=["not protobuf", "no events", "empty event", "negative", "no uuid", "too many"],
)
async def test_poison_goes_to_the_dead_letters_and_what_follows_is_charged(
    ledger: Ledger, subject: Subject, vhost: str, channel: AbstractChannel, body: bytes
) -> None:
    async with consuming(vhost, ledger.events):
        await publish_body(channel, body)
        await publish(channel, event(subject, 10))
        await until(spent_is(ledger, subject, 10))

        async def dead() -> bool:
            return await waiting(channel, topology.DEAD_LETTERS) == 1

        await until(dead)
    letters = await channel.get_queue(topology.DEAD_LETTERS, ensure=False)
    letter = await letters.get()
    assert letter is not None
    assert letter.body == body
    await letter.ack()


class Stalling:
    """Settles like the real one, but stops before or after the commit."""

    def __init__(self, ledger: Ledger, *, before: bool) -> None:
        self._ledger = ledger
        self._before = before
        self.reached = asyncio.Event()

    async def settle(self, received: Sequence[Received], now: datetime) -> Settlement:
        if not self._before:
            await self._ledger.events.settle(received, now)
        self.reached.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


@pytest.mark.parametrize("before", [True, False], ids=["before commit", "between commit and ack"])
async def test_a_consumer_killed_in_between_loses_nothing_and_charges_nothing_twice(
    ledger: Ledger, subject: Subject, vhost: str, channel: AbstractChannel, before: bool
) -> None:
    stalling = Stalling(ledger, before=before)
    async with consuming(vhost, stalling):
        await publish(channel, event(subject, 10))
        await asyncio.wait_for(stalling.reached.wait(), 10)
    assert await spent_is(ledger, subject, 0 if before else 10)()
    async with consuming(vhost, ledger.events):
        await until(spent_is(ledger, subject, 10))
        await until(lambda: nothing_left(channel))
    assert await spent_is(ledger, subject, 10)()


class FailingAtFirst:
    """The database is away for some calls, then back."""

    def __init__(self, ledger: Ledger, errors: list[Exception]) -> None:
        self._ledger = ledger
        self._errors = errors

    async def settle(self, received: Sequence[Received], now: datetime) -> Settlement:
        if self._errors:
            raise self._errors.pop()
        return await self._ledger.events.settle(received, now)


async def test_an_outage_of_the_database_only_delays(
    ledger: Ledger, subject: Subject, vhost: str, channel: AbstractChannel
) -> None:
    failing = FailingAtFirst(ledger, [ConnectionRefusedError(), TimeoutError(), OSError()])
    async with consuming(vhost, failing):
        await publish(channel, event(subject, 10))
        await until(spent_is(ledger, subject, 10))
    assert await waiting(channel, topology.DEAD_LETTERS) == 0


async def test_a_batch_that_no_attempt_can_settle_is_kept_as_a_dead_letter(
    ledger: Ledger, subject: Subject, vhost: str, channel: AbstractChannel
) -> None:
    async with consuming(vhost, FailingAtFirst(ledger, [ValueError("a bug")] * 5)):
        await publish(channel, event(subject, 10))

        async def dead() -> bool:
            return await waiting(channel, topology.DEAD_LETTERS) == 1

        await until(dead)


async def test_a_deleted_queue_is_declared_anew(
    ledger: Ledger, subject: Subject, vhost: str, channel: AbstractChannel
) -> None:
    async with consuming(vhost, ledger.events):
        await channel.queue_delete(topology.QUEUE)

        async def back() -> bool:
            async with await aio_pika.connect(vhost) as connection:
                probe = await connection.channel()
                try:
                    queue = await probe.declare_queue(topology.QUEUE, passive=True)
                except aio_pika.exceptions.ChannelClosed:
                    return False
                return queue.declaration_result.consumer_count == 1

        await until(back)
        await publish(channel, event(subject, 10))
        await until(spent_is(ledger, subject, 10))


async def test_a_broker_that_is_away_is_waited_for(
    ledger: Ledger, subject: Subject, vhost: str, channel: AbstractChannel
) -> None:
    host, port = vhost.rpartition("@")[2].partition("/")[0].rsplit(":", 1)
    async with Cable(host, int(port)) as cable:
        url = vhost.replace(f"{host}:{port}", f"127.0.0.1:{cable.port}")
        async with consuming(url, ledger.events):
            await publish(channel, event(subject, 10))
            await until(spent_is(ledger, subject, 10))
            await cable.cut()
            await publish(channel, event(subject, 20))
            await cable.mend()
            await until(spent_is(ledger, subject, 30))
