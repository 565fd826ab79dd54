"""The SQLite file of the spool. Used by one event loop, and by one process at a time."""

import fcntl
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

_SCHEMA = (
    # Final events, in the order in which they were recorded.
    "CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    # What running requests have used so far.
    "CREATE TABLE IF NOT EXISTS checkpoints "
    "(event_id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID",
)
_Row = TypeVar("_Row")
_ROWS_PER_STATEMENT = 500
_WAL_BYTES = 16 * 1024 * 1024
"""About the size from which the WAL is moved into the file."""
_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class SpooledEvent:
    """A final event in the spool."""

    seq: int
    body: bytes


@dataclass(slots=True)
class Changes:
    """What goes into the file in one transaction."""

    events: list[SpooledEvent] = field(default_factory=list)
    checkpoints: dict[str, bytes] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    """Ids of events whose checkpoints are obsolete."""
    removed: list[tuple[int, int]] = field(default_factory=list)
    """Ranges of `seq`, both ends included, that were confirmed."""

    def __bool__(self) -> bool:
        return bool(self.events or self.checkpoints or self.ended or self.removed)


class SpoolFile:
    """WAL mode with synchronous=NORMAL: a commit survives `kill -9`, since it is in the kernel's
    hands. It may not survive a power cut; synchronous=FULL would, at an fsync for each commit
    (1 to 10 ms on common disks).

    A commit of the loop's connection is a write into the page cache, some 15 µs, with no fsync.
    Those are left to `move_wal`, which a thread calls, over a connection of its own.
    """

    def __init__(self, path: str, interrupted: Callable[[bytes], bytes]) -> None:
        """Opens the file, or makes it, and turns left-over checkpoints into final events.

        Raises RuntimeError when another process has it open, OSError when it can't be opened.
        """
        self.path = path
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._lock = open(path + ".lock", "w")  # noqa: SIM115 - held until close
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"The spool {path} is in use by another process.") from error
        try:
            self._db, self._mover = self._connect(), self._connect(timeout_s=5)
            self._prepare(interrupted)
        except sqlite3.OperationalError as error:
            raise OSError(f"The spool {path} can't be opened: {error}") from error
        self._unmoved_bytes = 0
        (self.count, self.size_bytes, self.last_seq) = self._db.execute(
            "SELECT count(*), coalesce(sum(length(body)), 0), coalesce(max(seq), 0) FROM events"
        ).fetchone()

    def _connect(self, timeout_s: float = 0) -> sqlite3.Connection:
        # Opened in a thread, so as not to hold up the loop that uses it.
        db = sqlite3.connect(
            self.path, timeout=timeout_s, isolation_level=None, check_same_thread=False
        )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        return db

    def _prepare(self, interrupted: Callable[[bytes], bytes]) -> None:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            db.execute(statement)
        for (body,) in db.execute("SELECT body FROM checkpoints ORDER BY event_id").fetchall():
            db.execute("INSERT INTO events (body) VALUES (?)", (interrupted(body),))
        db.execute("DELETE FROM checkpoints")
        db.execute("COMMIT")

    def write(self, changes: Changes) -> None:
        """All or nothing. Raises sqlite3.Error when it can't be written; see `is_busy`."""
        # Roughly: a commit writes the pages that its rows are on, and one or two more.
        self._unmoved_bytes += 2 * _PAGE_BYTES + sum(len(event.body) for event in changes.events)
        alone = not (changes.checkpoints or changes.ended or changes.removed)
        if alone and len(changes.events) <= _ROWS_PER_STATEMENT:
            self._insert(changes.events)  # a transaction of its own
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            # First what makes room.
            for first, last in changes.removed:
                self._db.execute("DELETE FROM events WHERE seq BETWEEN ? AND ?", (first, last))
            for ids in _chunks(changes.ended):
                self._db.execute(
                    f"DELETE FROM checkpoints WHERE event_id IN ({_marks('?', len(ids))})",  # noqa: S608
                    ids,
                )
            for events in _chunks(changes.events):
                self._insert(events)
            for rows in _chunks(list(changes.checkpoints.items())):
                self._db.execute(
                    f"INSERT OR REPLACE INTO checkpoints VALUES {_marks('(?,?)', len(rows))}",  # noqa: S608
                    [value for row in rows for value in row],
                )
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _insert(self, events: list[SpooledEvent]) -> None:
        # A repeated seq is a repeated attempt after a failed one.
        self._db.execute(
            f"INSERT OR REPLACE INTO events VALUES {_marks('(?,?)', len(events))}",  # noqa: S608
            [value for event in events for value in (event.seq, event.body)],
        )

    @property
    def wants_move(self) -> bool:
        """Whether the WAL has grown so long that `move_wal` should be called."""
        return self._unmoved_bytes >= _WAL_BYTES

    def move_wal(self) -> None:
        """Moves the WAL into the file and lets it begin anew; for a thread, since it waits for
        the disk. Meanwhile a commit can fail, and be tried again a moment later (`is_busy`).
        """
        self._unmoved_bytes = 0
        self._mover.execute("PRAGMA wal_checkpoint(PASSIVE)")  # most of it, while others commit
        self._mover.execute("PRAGMA wal_checkpoint(RESTART)")
        # The first commit of a new WAL syncs its header: better this one than one of the loop.
        self._mover.execute("PRAGMA user_version = 1")

    def shrink(self) -> None:
        """Empties the WAL into the file, so that a full disk has some room again; for a thread."""
        self._mover.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def read(self, after: int, limit: int) -> list[SpooledEvent]:
        """The next events in order."""
        rows = self._db.execute(
            "SELECT seq, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
        )
        return [SpooledEvent(seq, body) for seq, body in rows.fetchall()]

    def close(self) -> None:
        """Moves what is in the WAL, closes the file and gives up the lock."""
        try:
            self._mover.close()
            self._db.close()
        finally:
            self._lock.close()


def is_busy(error: sqlite3.Error) -> bool:
    """Whether a commit failed only because `move_wal` had the file for a moment."""
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # of which there are kinds


def _marks(one: str, count: int) -> str:
    """Placeholders alone, so that no value gets into the text of a statement."""
    return ",".join([one] * count)


def _chunks(rows: list[_Row]) -> list[list[_Row]]:
    return [rows[at : at + _ROWS_PER_STATEMENT] for at in range(0, len(rows), _ROWS_PER_STATEMENT)]
