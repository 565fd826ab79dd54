"""When and from where keys were last used: gathered here, written in batches, off the way."""

import asyncio
from typing import Protocol

import structlog

from ias_runtime import postgres

FLUSH_S = 2.0
EVERY_S = 60.0
"""A key is written at most once in so long."""
_BATCH = 1000
_PENDING = 100_000
log = structlog.get_logger()


class UseStore(Protocol):
    """Where last uses are kept."""

    async def write(self, uses: dict[str, tuple[float, str]]) -> None:
        """Writes (Unix seconds, address) by key id."""
        ...


class GatheredKeyUses:
    """Implements KeyUses."""

    def __init__(self, store: UseStore) -> None:
        self._store = store
        self._pending: dict[str, tuple[float, str]] = {}
        self._written: dict[str, float] = {}

    def used(self, key_id: str, at: float, address: str) -> None:
        """See the port."""
        if at - self._written.get(key_id, 0.0) < EVERY_S or len(self._pending) >= _PENDING:
            return
        self._pending[key_id] = (at, address)

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Writes what has gathered; what can't be written waits for the next time."""
        while self._pending:
            batch = dict(list(self._pending.items())[:_BATCH])
            try:
                await self._store.write(batch)
            except (*postgres.UNAVAILABLE, *postgres.RETRYABLE) as error:
                log.info("last uses not written yet", keys=len(batch), cause=repr(error))
                return
            for key_id, (at, _) in batch.items():
                self._pending.pop(key_id, None)
                self._written[key_id] = at
        if len(self._written) > _PENDING:
            self._written.clear()
