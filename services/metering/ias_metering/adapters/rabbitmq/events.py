"""Consumes usage events, for ever: through outages of RabbitMQ and of the database.

A message is acknowledged only after its transaction has committed. Until then RabbitMQ keeps it,
and gives it to another consumer when this one goes away.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import datetime

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from prometheus_client import Counter, Gauge

from ias_metering.adapters.rabbitmq import topology
from ias_metering.adapters.rabbitmq.batches import BadBatch, parse
from ias_metering.domain.events import Received
from ias_metering.domain.ports import Events
from ias_runtime.postgres import RETRYABLE, UNAVAILABLE

log = structlog.get_logger()

EVENTS = Counter("ias_metering_events", "Usage events received, by what became of them.", ["fate"])
DEAD_BATCHES = Counter(
    "ias_metering_dead_batches", "Messages sent to the dead letters: look at them, they are usage."
)
CONNECTED = Gauge("ias_metering_queue_connected", "1 while usage events are being consumed.")
BACKLOG = Gauge("ias_metering_queue_backlog", "Messages in the queue that nobody works on.")

PREFETCH = 16
_WORKERS = 4
"""Transactions at the same time: some wait for the disk while others compute."""
_CONNECT_TIMEOUT_S = 5.0
_WATCH_EVERY_S = 5.0
_MAX_WAIT_S = 5.0
_BUG_ATTEMPTS = 5
"""After so many failures that are not the database's, a message goes to the dead letters."""


class ConsumerVanished(Exception):
    """The broker no longer knows this consumer: its queue was deleted or has moved."""


class UsageConsumer:
    """One consumer; any number may run at once."""

    def __init__(self, url: str, events: Events, clock: Callable[[], datetime]) -> None:
        self._url = url
        self._events = events
        self._clock = clock
        self.ready = asyncio.Event()
        """Set while consuming."""

    async def run(self) -> None:
        """Consumes until cancelled. What was not acknowledged then is delivered again."""
        wait_s = 0.1
        while True:
            try:
                await self._session()
            except Exception as error:
                if self.ready.is_set():
                    wait_s = 0.1
                log.warning("usage queue lost", cause=_cause(error), retry_in_s=round(wait_s, 1))
            finally:
                self.ready.clear()
                CONNECTED.set(0)
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - only jitter
            wait_s = min(_MAX_WAIT_S, 2 * wait_s)

    async def _session(self) -> None:
        connection = await aio_pika.connect(
            self._url,
            timeout=_CONNECT_TIMEOUT_S,
            client_properties={"connection_name": "ias-metering"},
        )
        async with connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=PREFETCH)
            queue = await topology.declare(channel)
            arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
            await queue.consume(arrived.put)
            log.info("consuming usage events")
            CONNECTED.set(1)
            self.ready.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(_end_with(connection.closed(), "connection closed"))
                group.create_task(_end_with(channel.closed(), "channel closed"))
                group.create_task(_watch(channel))
                for _ in range(_WORKERS):
                    group.create_task(self._work(arrived))

    async def _work(self, arrived: asyncio.Queue[AbstractIncomingMessage]) -> None:
        while True:
            message = await arrived.get()
            try:
                received = parse(message.body, self._clock())
                await self._settle(received)
            except BadBatch as error:
                DEAD_BATCHES.inc()
                log.error("usage batch is dead", cause=str(error), bytes=len(message.body))
                await message.reject(requeue=False)
            else:
                await message.ack()

    async def _settle(self, received: list[Received]) -> None:
        """Settles, however long it takes. Raises BadBatch for what the ledger can never take."""
        wait_s, bugs = 0.05, 0
        while True:
            try:
                result = await self._events.settle(received, self._clock())
            except (*UNAVAILABLE, *RETRYABLE) as error:
                log.warning("usage not settled yet", cause=_cause(error))
            except Exception as error:
                bugs += 1
                log.exception("usage can't be settled", attempt=bugs)
                if bugs == _BUG_ATTEMPTS:
                    raise BadBatch(_cause(error)) from error
            else:
                EVENTS.labels("settled").inc(result.settled)
                EVENTS.labels("duplicate").inc(result.duplicates)
                EVENTS.labels("quarantined").inc(result.quarantined)
                return
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - only jitter
            wait_s = min(_MAX_WAIT_S, 2 * wait_s)


async def _end_with(closed: object, why: str) -> None:
    await asyncio.wait([asyncio.ensure_future(closed)])  # type: ignore[call-overload]
    raise ConsumerVanished(why)


async def _watch(channel: AbstractChannel) -> None:
    # The broker tells of a deleted queue by a cancellation that the driver does not pass on.
    while True:
        queue = await channel.declare_queue(topology.QUEUE, passive=True)
        BACKLOG.set(queue.declaration_result.message_count or 0)
        if queue.declaration_result.consumer_count == 0:
            raise ConsumerVanished("the queue has no consumer")
        await asyncio.sleep(_WATCH_EVERY_S)


def _cause(error: BaseException) -> str:
    """What went wrong, without the URL, which holds a password."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return type(error).__name__
