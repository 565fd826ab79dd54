"""Publishes the spool in batches, in order, one unconfirmed batch at a time.

One batch of 500 per confirm is far more than a process produces, and keeps the order. A robust
connection of aio-pika would reconnect, but not repeat what failed; so the loop here does both.
"""

import asyncio
import contextlib
from types import TracebackType

import aio_pika
import structlog
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractExchange
from aio_pika.connection import make_url
from aio_pika.exceptions import PublishError

from ias_inference.adapters.publisher import metrics
from ias_inference.adapters.publisher.topology import ROUTING_KEY, declare
from ias_inference.adapters.spool import Spool, SpooledEvent
from ias_inference.adapters.spool.events import to_batch

log = structlog.get_logger()

BATCH = 500
GATHER_S = 0.1
"""How long an event may wait for others to join its batch. Each batch costs a publish, a confirm
and a transaction in metering: with 20 ms, about a quarter of a request's CPU at light load.
"""
BACKOFF_S = (0.1, 2.0)
TIMEOUT_S = 10.0
"""For connecting, and for a confirm."""
FLUSH_S = 2.0
CONTENT_TYPE = "application/x-protobuf"


class Publisher:
    """Publishes in the background while open. Nothing leaves the spool before its confirm, so
    what fails is published again: consumers see an event at least once.
    """

    def __init__(self, spool: Spool, amqp_url: str) -> None:
        self._spool = spool
        self._url = amqp_url
        self._task: asyncio.Task[None] | None = None
        self._batch: list[SpooledEvent] = []
        """Taken from the spool, not yet confirmed."""
        self._published = 0
        self._flushing = False
        self._flushed = asyncio.Event()

    async def __aenter__(self) -> "Publisher":
        self._task = asyncio.create_task(self._run(), name="usage publisher")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Publishes for at most FLUSH_S what is left; the rest stays in the spool."""
        self._flushing = True
        if self._batch or self._spool.untaken:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await self._flushed.wait()
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._spool.rewind()

    async def _run(self) -> None:
        delay, longest = BACKOFF_S
        while True:
            before = self._published
            try:
                await self._session()
            except Exception as error:  # whatever it is: the spool keeps the events meanwhile
                metrics.FAILURES.inc()
                # Its class only: messages of drivers may hold the URL with its password.
                log.warning("usage not published, trying again", error=type(error).__name__)
            if self._published > before:
                delay = BACKOFF_S[0]
            await asyncio.sleep(delay)
            delay = min(delay * 2, longest)

    async def _session(self) -> None:
        """One connection, from its opening to its failure."""
        connection = aio_pika.Connection(make_url(self._url))
        try:
            await connection.connect(timeout=TIMEOUT_S)
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            exchange = await declare(channel)
            while True:
                await self._fill()
                exchange = await self._publish(channel, exchange)
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.close(), FLUSH_S)

    async def _fill(self) -> None:
        """Waits for a batch, unless the last one was not confirmed."""
        spool = self._spool
        while not self._batch:
            if self._flushing and not spool.untaken:
                self._flushed.set()
            await spool.wait()
            if spool.untaken < BATCH and not self._flushing:
                await asyncio.sleep(GATHER_S)
            self._batch = spool.take(BATCH)

    async def _publish(
        self, channel: AbstractChannel, exchange: AbstractExchange
    ) -> AbstractExchange:
        """Publishes the batch and waits for the confirm. Raises when there is none."""
        message = Message(
            to_batch([event.body for event in self._batch]),
            content_type=CONTENT_TYPE,
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        try:
            await exchange.publish(message, ROUTING_KEY, mandatory=True, timeout=TIMEOUT_S)
        except PublishError:  # returned: somebody unbound or deleted the queue
            metrics.FAILURES.inc()
            log.error("usage events came back unrouted, declaring the queue again")
            exchange = await declare(channel)
            await exchange.publish(message, ROUTING_KEY, mandatory=True, timeout=TIMEOUT_S)
        self._spool.remove(self._batch)
        metrics.PUBLISHED.inc(len(self._batch))
        self._published += len(self._batch)
        self._batch = []
        return exchange
