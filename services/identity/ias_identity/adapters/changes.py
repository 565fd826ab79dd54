"""Reads the table of changes every second: the way of revocations that needs no Redis."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from ias_runtime import postgres

INTERVAL_S = 1.0
_GAP_S = 10.0
"""After so long without a reading, notes may have been missed."""
_PURGE_S = 60.0
_TIMEOUT_S = 3.0
log = structlog.get_logger()


class Changes(Protocol):
    """The table of changes."""

    async def unseen(self) -> list[str]:
        """The ids of what has changed since the last call, up to 15 s ago."""
        ...

    async def purge(self) -> None:
        """Deletes notes that nobody reads any more."""
        ...


class ChangePoller:
    """Forgets what the table of changes says."""

    def __init__(
        self,
        changes: Changes,
        forget: Callable[[set[str]], None],
        forget_all: Callable[[], None],
        tidy: Callable[[], None],
    ) -> None:
        self._changes = changes
        self._forget = forget
        self._forget_all = forget_all
        self._tidy = tidy

    async def run(self) -> None:
        """Polls until cancelled."""
        read_at = purged_at = time.monotonic()
        reading = True
        while True:
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    ids = await self._changes.unseen()
                    if time.monotonic() - purged_at > _PURGE_S:
                        purged_at = time.monotonic()
                        self._tidy()
                        await self._changes.purge()
                if time.monotonic() - read_at > _GAP_S:
                    self._forget_all()
                if ids:
                    self._forget(set(ids))
                read_at = time.monotonic()
                reading = True
            except (*postgres.UNAVAILABLE, *postgres.RETRYABLE) as error:
                if reading:
                    log.warning("the table of changes can't be read", cause=repr(error))
                reading = False
            await asyncio.sleep(INTERVAL_S)
