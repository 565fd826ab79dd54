"""The thread that writes the spool: all that queued up during one commit goes into the next.

Against commits on the event loop itself (tests/bench/spool.py, 2 cores): alone 0.09 against
0.05 ms, 32 at once 43 000 against 41 000 a second, 1 000 at once 49 000 against 64 000. The loop
would be a little faster, but every fsync of a WAL checkpoint (60 to 170 ms there) and every slow
disk would stop all streams of the process; here only those wait who record.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import structlog

from ias_inference.adapters.spool.file import Changes, SpooledEvent, SpoolFile

log = structlog.get_logger()

RETRY_S = 0.5
"""How often a failed write is tried again."""
GATHER_S = 0.002
"""How long a job waits for others to join its commit when there was one so shortly before. Under
load this saves a hand-over of the interpreter, and a commit, for most requests; a request that
comes alone never waits.
"""
_GROUP = 2000


@dataclass(frozen=True, slots=True)
class Final:
    """A final event to write; `checkpointed` when there may be a checkpoint of it in the file."""

    event_id: str
    body: bytes
    checkpointed: bool
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a running request has used so far."""

    event_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Removal:
    """A range of confirmed events."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Read:
    """A wish for the next events in the file."""

    after: int
    limit: int
    done: asyncio.Future[list[SpooledEvent]]


class Stop:
    """The last job."""


Job = Final | Checkpoint | Removal | Read | Stop


@dataclass(slots=True)
class Report:
    """What became of a group; handed to the event loop in one call."""

    failed: bool = False
    written: list[SpooledEvent] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    read: list[tuple[asyncio.Future[list[SpooledEvent]], list[SpooledEvent]]] = field(
        default_factory=list
    )


class Writer(threading.Thread):
    """Owns the file. What can't be written is kept and tried again until it can."""

    def __init__(
        self,
        file: SpoolFile,
        loop: asyncio.AbstractEventLoop,
        report: Callable[[Report], None],
    ) -> None:
        super().__init__(name="spool writer", daemon=True)
        self.jobs: SimpleQueue[Job] = SimpleQueue()
        self._file = file
        self._loop = loop
        self._report = report
        self._seq = file.last_seq
        self._changes = Changes()
        self._failing = False
        self._wrote_at = 0.0

    def run(self) -> None:
        """Until Stop; then what is queued is written, once more tried where it failed."""
        stopping = False
        while not stopping:
            report = Report()
            stopping, reads = self._collect(report)
            self._write(report)
            for read in reads:
                report.read.append((read.done, self._read(read)))
            self._loop.call_soon_threadsafe(self._report, report)
        try:
            self._file.close()
        except sqlite3.Error as error:
            log.error("spool not closed cleanly", error=str(error))

    def _collect(self, report: Report) -> tuple[bool, list[Read]]:
        """Waits for a job and takes all that are there."""
        reads: list[Read] = []
        try:
            job = self.jobs.get(timeout=RETRY_S if self._failing else None)
            if time.monotonic() - self._wrote_at < GATHER_S:
                time.sleep(GATHER_S)
            for left in range(_GROUP, 0, -1):
                if isinstance(job, Final):
                    self._add(job, report)
                elif isinstance(job, Checkpoint):
                    self._changes.checkpoints[job.event_id] = job.body
                elif isinstance(job, Removal):
                    self._changes.removed.append((job.first, job.last))
                elif isinstance(job, Read):
                    reads.append(job)
                else:
                    return True, reads
                if left > 1:
                    job = self.jobs.get_nowait()
        except Empty:
            pass
        return False, reads

    def _add(self, final: Final, report: Report) -> None:
        self._seq += 1
        self._changes.events.append(SpooledEvent(self._seq, final.body))
        report.waiting.append(final.done)
        if final.checkpointed:
            self._changes.checkpoints.pop(final.event_id, None)
            self._changes.ended.append(final.event_id)

    def _write(self, report: Report) -> None:
        if not self._changes:
            return
        try:
            if self._failing:
                self._file.shrink()
            self._file.write(self._changes)
        except Exception as error:  # whatever it is: this thread must go on
            if not self._failing:
                log.error("spool can't be written", path=self._file.path, error=repr(error))
            self._failing = report.failed = True
            return
        self._wrote_at = time.monotonic()
        if self._failing:
            log.info("spool can be written again", path=self._file.path)
        self._failing = False
        report.written = self._changes.events
        self._changes = Changes()

    def _read(self, read: Read) -> list[SpooledEvent]:
        try:
            return self._file.read(read.after, read.limit)
        except sqlite3.Error as error:
            log.error("spool can't be read", path=self._file.path, error=str(error))
            return []
