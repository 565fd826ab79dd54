"""What is known of keys and sessions: process cache → Redis → Postgres.

How a change becomes effective everywhere within 2 s:

* the process that makes it forgets at once and publishes a message; the others forget on hearing;
* each process also reads the table of changes every second (`changes.py`), which needs no Redis;
* what was loaded about when a change became known may be older than the change: such a copy in
  Redis is passed over, and one from Postgres is kept for a second only;
* nothing is used longer than TTL_S after the database was asked.

While the database can't be asked, a key in use goes on for STALE_S, but only as long as
revocation messages would be heard.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from ias_identity.domain.access import Credential
from ias_runtime import postgres
from ias_runtime.caller import CallerKind
from ias_runtime.errors import Unavailable

TTL_S = 30.0
STALE_S = 300.0
NEGATIVE_TTL_S = 5.0
SHORT_S = 1.0
"""For what may be out of date already."""
_SKEW_S = 5.0
"""How far the clocks of two machines may differ; what is loaded nearer to a change is suspect."""
_REMEMBER_S = TTL_S + 2 * _SKEW_S
_LOAD_TIMEOUT_S = 0.7  # Envoy waits a second for the whole of Check
_FAILURES = 3
"""After so many in a row the database counts as down; a single one may be a busy moment."""
_ENTRIES = 200_000
_NEGATIVE_ENTRIES = 50_000
log = structlog.get_logger()

_Key = tuple[CallerKind, str]


class Source(Protocol):
    """The truth."""

    async def load(self, kind: CallerKind, lookup: str) -> Credential | None:
        """None if there is none. Raises what the driver raises when it can't be asked."""
        ...


class Shared(Protocol):
    """A cache that processes share. Never fails: it may know nothing."""

    async def get(self, kind: CallerKind, lookup: str) -> Credential | None:
        """None when it isn't here."""
        ...

    async def put(self, credential: Credential) -> None:
        """Keeps it for what remains of TTL_S."""
        ...

    async def drop(self, credentials: Sequence[Credential]) -> None:
        """Forgets them."""
        ...


class CachedCredentials:
    """Implements Credentials."""

    def __init__(self, source: Source, shared: Shared, hearing: Callable[[], bool]) -> None:
        self._source = source
        self._shared = shared
        self._hearing = hearing
        self._held: dict[_Key, Credential] = {}
        self._absent: dict[_Key, float] = {}
        self._loading: dict[_Key, asyncio.Task[Credential | None]] = {}
        self._changed: dict[str, float] = {}
        """Ids of keys, sessions, users, organisations, and when their change became known."""
        self._all_changed_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = 0
        """Of the database, one after the other."""
        self._source_down_until = 0.0

    async def find(self, kind: CallerKind, lookup: str) -> Credential | None:
        """See the port."""
        key = (kind, lookup)
        now = time.time()
        held = self._held.get(key)
        if held is not None and held.good_until > now:
            return held
        if self._absent.get(key, 0.0) > now:
            return None
        if now < self._source_down_until:
            return self._go_on_with(held, None)
        # Many requests for one cold key make one query.
        task = self._loading.get(key)
        if task is None:
            task = self._loading[key] = asyncio.create_task(self._load(kind, lookup))
            task.add_done_callback(lambda done: self._loaded(key, done))
        try:
            return await asyncio.shield(task)
        except (*postgres.UNAVAILABLE, *postgres.RETRYABLE) as error:
            self._failures += 1
            if self._failures >= _FAILURES:
                # A frozen database costs its timeout once a second, not once a call.
                self._source_down_until = time.time() + SHORT_S
            return self._go_on_with(held, error)

    def forget(self, ids: set[str]) -> None:
        """Drops whatever depends on these keys, sessions, users or organisations."""
        now = time.time()
        for identifier in ids:
            self._changed[identifier] = now
        dropped = [
            credential
            for credential in self._held.values()
            if credential.id in ids
            or credential.user_id in ids
            or credential.organization_id in ids
        ]
        self._drop(dropped)
        if dropped:
            self._background(self._shared.drop(dropped))

    def forget_all(self) -> None:
        """Drops everything, when it is unknown what has changed."""
        self._all_changed_at = time.time()
        self._drop(list(self._held.values()))
        self._absent.clear()

    def tidy(self) -> None:
        """Removes what has run out; to be called now and then."""
        now = time.time()
        self._changed = {
            identifier: at for identifier, at in self._changed.items() if at > now - _REMEMBER_S
        }
        self._absent = {key: until for key, until in self._absent.items() if until > now}
        for key, credential in list(self._held.items()):
            if credential.good_until < now - STALE_S:
                del self._held[key]

    def _drop(self, credentials: Sequence[Credential]) -> None:
        for credential in credentials:
            credential.live = False
            self._held.pop((credential.kind, credential.lookup), None)

    async def _load(self, kind: CallerKind, lookup: str) -> Credential | None:
        key = (kind, lookup)
        found = await self._shared.get(kind, lookup)
        if found is None or self._is_suspect(found):
            async with asyncio.timeout(_LOAD_TIMEOUT_S):
                found = await self._source.load(kind, lookup)
            self._failures = 0
            if found is not None and not self._is_suspect(found):
                self._background(self._shared.put(found))
        now = time.time()
        if found is None:
            if len(self._absent) >= _NEGATIVE_ENTRIES:
                self._absent.pop(next(iter(self._absent)))
            self._absent[key] = now + NEGATIVE_TTL_S
            return None
        found.good_until = (
            min(now, found.loaded_at) + SHORT_S
            if self._is_suspect(found)
            else min(now, found.loaded_at) + TTL_S
        )
        former = self._held.pop(key, None)
        if former is not None:
            former.live = False
        if len(self._held) >= _ENTRIES:
            self._held.pop(next(iter(self._held))).live = False
        self._held[key] = found
        return found

    def _loaded(self, key: _Key, task: "asyncio.Task[Credential | None]") -> None:
        self._loading.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody may be left who does

    def _is_suspect(self, credential: Credential) -> bool:
        """Whether it was loaded before, or about when, something about it changed."""
        changed = self._changed
        changed_at = max(
            changed.get(credential.id, 0.0),
            changed.get(credential.user_id, 0.0),
            changed.get(credential.organization_id, 0.0),
            self._all_changed_at,
        )
        return credential.loaded_at <= changed_at + _SKEW_S

    def _go_on_with(self, held: Credential | None, error: BaseException | None) -> Credential:
        now = time.time()
        if held is not None and held.live and now < held.loaded_at + STALE_S and self._hearing():
            held.good_until = now + SHORT_S
            return held
        if error is not None:
            log.warning("a credential can't be looked up", cause=repr(error))
        raise Unavailable("database") from error

    def _background(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
