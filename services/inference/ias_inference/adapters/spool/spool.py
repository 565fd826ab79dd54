"""The port `UsageRecorder`, and what the publisher takes from it.

What is recorded in one turn of the event loop is committed by the loop itself, at the end of
the turn. A thread would be handed every event, and hand back every answer; against one that
gathered events for 2 ms this took the median request from 3.7 to 1.8 ms, and a third off the
CPU of a request under load. The loop never waits for the disk: see SpoolFile.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from types import TracebackType

import structlog

from ias_inference.adapters.spool import metrics
from ias_inference.adapters.spool.events import interrupted, to_body
from ias_inference.adapters.spool.file import Changes, SpooledEvent, SpoolFile, is_busy
from ias_inference.domain.usage import Usage
from ias_runtime.errors import Unavailable

log = structlog.get_logger()

WINDOW = 10_000
"""Events kept in memory for the publisher; beyond that they are read from the file again."""
ROW_BYTES = 16
"""What an event costs in the file beyond its body."""
RETRY_S = 0.5
"""How often a failed commit is tried again."""
BUSY_S = 0.002
"""How soon, when the file was only busy."""


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
        self._file: SpoolFile | None = None
        self._loop: asyncio.AbstractEventLoop
        self._changes = Changes()
        """For the next commit."""
        self._waiting: list[asyncio.Future[None]] = []
        """Who waits for it."""
        self._due = False
        """Whether a commit is to come."""
        self._upkeep: asyncio.Task[None] | None = None
        """What a thread does with the file at present."""
        self._checkpointed: set[str] = set()
        self._ready: deque[SpooledEvent] = deque()
        self._taken = 0
        """The last event that the publisher took."""
        self._removed = 0
        """The last one that was confirmed."""
        self._stored = 0
        """The last one in the file."""
        self._recorded = 0
        """The last one that was given a number."""
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> "Spool":
        """Raises RuntimeError when another process uses the file, OSError when it can't be used."""
        self._loop = asyncio.get_running_loop()
        file = self._file = await asyncio.to_thread(SpoolFile, self._path, interrupted)
        self._count, self._size_bytes = file.count, file.size_bytes + file.count * ROW_BYTES
        self._stored = self._recorded = file.last_seq
        if self._count:
            self._arrived.set()
        self._show()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._upkeep is not None:
            await self._upkeep
        self._commit()
        file, self._file = self._file, None
        assert file is not None
        try:
            await asyncio.to_thread(file.close)
        except sqlite3.Error as failure:
            log.error("spool not closed cleanly", error=str(failure))

    def check(self) -> None:
        """See the port."""
        if (
            self._failing
            or self._count >= self._max_events
            or self._size_bytes >= self._max_bytes
            or self._file is None
        ):
            raise _full()

    def checkpoint(self, usage: Usage) -> None:
        """See the port."""
        self._checkpointed.add(usage.event_id)
        self._changes.checkpoints[usage.event_id] = to_body(usage)
        self._commit_soon()

    async def record(self, usage: Usage) -> None:
        """See the port. What could not be written is kept, and written when there is room."""
        done = self._loop.create_future()
        event_id = usage.event_id
        self._recorded += 1
        self._changes.events.append(SpooledEvent(self._recorded, to_body(usage)))
        if event_id in self._checkpointed:
            self._checkpointed.discard(event_id)
            self._changes.checkpoints.pop(event_id, None)
            self._changes.ended.append(event_id)
        self._waiting.append(done)
        self._commit_soon()
        await done

    def _commit_soon(self, delay_s: float = 0.0) -> None:
        if self._file is None:
            raise _full()
        if self._due:
            return
        self._due = True
        if delay_s:
            self._loop.call_later(delay_s, self._commit)
        else:
            self._loop.call_soon(self._commit)

    def _commit(self) -> None:
        file, changes = self._file, self._changes
        self._due = False
        if file is None or not changes:
            return
        try:
            file.write(changes)
        except Exception as error:  # whatever it is: what was used must not be forgotten
            if isinstance(error, sqlite3.Error) and is_busy(error):
                self._commit_soon(BUSY_S)
            else:
                self._fail(file, error)
            return
        if self._failing:
            log.info("spool can be written again", path=self._path)
            self._failing = False
        self._changes = Changes()
        self._note(changes.events)
        self._tell(None)
        if file.wants_move and self._upkeep is None:
            self._upkeep = self._loop.create_task(self._move_wal(file))

    def _fail(self, file: SpoolFile, error: Exception) -> None:
        """Keeps the changes, tells who waits, and tries again after a while."""
        if not self._failing:
            log.error("spool can't be written", path=self._path, error=repr(error))
        self._failing = True
        metrics.FAILURES.inc()
        self._tell(error)
        self._due = True  # by the retry alone
        self._upkeep = self._loop.create_task(self._retry(file, self._upkeep))

    async def _retry(self, file: SpoolFile, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        await asyncio.sleep(RETRY_S)
        await self._in_thread(file.shrink)
        self._upkeep = None
        self._commit()

    async def _move_wal(self, file: SpoolFile) -> None:
        await self._in_thread(file.move_wal)
        self._upkeep = None

    async def _in_thread(self, upkeep: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(upkeep)
        except sqlite3.Error as error:
            log.warning("spool not tidied up", path=self._path, error=str(error))

    def _tell(self, error: Exception | None) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(_full())

    def _note(self, written: list[SpooledEvent]) -> None:
        for event in written:
            self._count += 1
            self._size_bytes += len(event.body) + ROW_BYTES
            # In memory only while it follows on what is there: else the file has the order.
            last = self._ready[-1].seq if self._ready else self._taken
            if last == event.seq - 1 and len(self._ready) < WINDOW:
                self._ready.append(event)
            self._stored = event.seq
        if written:
            self._arrived.set()
            self._show()

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

    def take(self, limit: int) -> list[SpooledEvent]:
        """The next events, in the order of their recording; none when all were taken."""
        if self._ready:
            batch = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        elif self._taken < self._stored and self._file is not None:
            batch = self._read(self._file, limit)
        else:
            batch = []
        if batch:
            self._taken = batch[-1].seq
        if not self.untaken:
            self._arrived.clear()
        return batch

    def _read(self, file: SpoolFile, limit: int) -> list[SpooledEvent]:
        try:
            return file.read(self._taken, limit)
        except sqlite3.Error as error:
            log.error("spool can't be read", path=self._path, error=str(error))
            return []

    def remove(self, batch: list[SpooledEvent]) -> None:
        """Forgets events that RabbitMQ confirmed."""
        self._changes.removed.append((batch[0].seq, batch[-1].seq))
        self._commit_soon()
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
