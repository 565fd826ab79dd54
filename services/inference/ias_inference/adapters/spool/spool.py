"""The port `UsageRecorder`, and what the publisher takes from it."""

import asyncio
from collections import deque
from types import TracebackType

from ias_inference.adapters.spool import metrics
from ias_inference.adapters.spool.events import interrupted, to_body
from ias_inference.adapters.spool.file import SpooledEvent, SpoolFile
from ias_inference.adapters.spool.writer import (
    Checkpoint,
    Final,
    Job,
    Read,
    Removal,
    Report,
    Stop,
    Writer,
)
from ias_inference.domain.usage import Usage
from ias_runtime.errors import Unavailable

WINDOW = 10_000
"""Events kept in memory for the publisher; beyond that they are read from the file again."""
ROW_BYTES = 16
"""What an event costs in the file beyond its body."""


class Spool:
    """A spool of at most `max_events` events and about `max_bytes` bytes in the file `path`.

    Beyond that nothing new is admitted (`check`), but what runs is still recorded. An async
    context manager; everything is called on the event loop that opened it.
    """

    def __init__(self, path: str, max_bytes: int, max_events: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_events = max_events
        self._count = 0
        self._size_bytes = 0
        self._failing = False
        self._writer: Writer | None = None
        self._checkpointed: set[str] = set()
        self._ready: deque[SpooledEvent] = deque()
        self._taken = 0
        """The last event that the publisher took."""
        self._removed = 0
        """The last one that was confirmed."""
        self._stored = 0
        """The last one in the file."""
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> "Spool":
        """Raises RuntimeError when another process uses the file, OSError when it can't be used."""
        file = await asyncio.to_thread(SpoolFile, self._path, interrupted)
        self._count, self._size_bytes = file.count, file.size_bytes + file.count * ROW_BYTES
        self._stored = file.last_seq
        if self._count:
            self._arrived.set()
        self._show()
        self._writer = Writer(file, asyncio.get_running_loop(), self._note)
        self._writer.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        writer, self._writer = self._writer, None
        assert writer is not None
        writer.jobs.put(Stop())
        await asyncio.to_thread(writer.join)
        await asyncio.sleep(0)  # the last report

    def check(self) -> None:
        """See the port."""
        if (
            self._failing
            or self._count >= self._max_events
            or self._size_bytes >= self._max_bytes
            or self._writer is None
        ):
            raise _full()

    def checkpoint(self, usage: Usage) -> None:
        """See the port."""
        self._checkpointed.add(usage.event_id)
        self._put(Checkpoint(usage.event_id, to_body(usage)))

    async def record(self, usage: Usage) -> None:
        """See the port. What could not be written is kept, and written when there is room."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        event_id = usage.event_id
        checkpointed = event_id in self._checkpointed
        if checkpointed:
            self._checkpointed.discard(event_id)
        self._put(Final(event_id, to_body(usage), checkpointed, done))
        await done

    def _put(self, job: Job) -> None:
        if self._writer is None:
            raise _full()
        self._writer.jobs.put(job)

    def _note(self, report: Report) -> None:
        if report.failed:
            metrics.FAILURES.inc()
        self._failing = report.failed
        for done in report.waiting:
            if done.done():
                continue
            if report.failed:
                done.set_exception(_full())
            else:
                done.set_result(None)
        for event in report.written:
            self._count += 1
            self._size_bytes += len(event.body) + ROW_BYTES
            # In memory only while it follows on what is there: else the file has the order.
            last = self._ready[-1].seq if self._ready else self._taken
            if last == event.seq - 1 and len(self._ready) < WINDOW:
                self._ready.append(event)
            self._stored = event.seq
        if report.written:
            self._arrived.set()
            self._show()
        for asked, events in report.read:
            if not asked.done():
                asked.set_result(events)

    def _show(self) -> None:
        metrics.EVENTS.set(self._count)
        metrics.SIZE.set(self._size_bytes)

    @property
    def untaken(self) -> int:
        """Events that `take` would give at most, counted from their numbers."""
        return self._stored - self._taken

    async def wait(self) -> None:
        """Returns when there is an event to take."""
        await self._arrived.wait()

    async def take(self, limit: int) -> list[SpooledEvent]:
        """The next events, in the order of their recording; none when all were taken."""
        if self._ready:
            batch = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        elif self._taken < self._stored:
            done: asyncio.Future[list[SpooledEvent]] = asyncio.get_running_loop().create_future()
            self._put(Read(self._taken, limit, done))
            batch = await done
        else:
            batch = []
        if batch:
            self._taken = batch[-1].seq
        if not self.untaken:
            self._arrived.clear()
        return batch

    def remove(self, batch: list[SpooledEvent]) -> None:
        """Forgets events that RabbitMQ confirmed."""
        self._put(Removal(batch[0].seq, batch[-1].seq))
        self._removed = batch[-1].seq
        self._count -= len(batch)
        self._size_bytes -= sum(len(event.body) + ROW_BYTES for event in batch)
        self._show()

    def rewind(self) -> None:
        """Lets `take` begin again at the first event that was not removed."""
        self._taken = self._removed
        self._ready.clear()
        if self.untaken:
            self._arrived.set()


def _full() -> Unavailable:
    return Unavailable("usage spool", reason="SPOOL_FULL")
