"""Transactions of the ledger: begun anew after a deadlock, and fenced per organisation.

The fence is an advisory lock on the organisation, taken before any row: shared by whatever moves
tokens, exclusive for what moves the bounds of periods. So a settlement never charges a period that
is being recomputed, and those who only move tokens do not wait for each other there.
"""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from typing import TypeVar

from ias_runtime.postgres import RETRYABLE, Connection, Pool

T = TypeVar("T")
_ATTEMPTS = 5


async def transaction(pool: Pool, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Runs `work` in a transaction; again, up to 5 times, when it lost against another."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with pool.acquire() as connection, connection.transaction():
                return await work(connection)
        except RETRYABLE:
            if attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(random.uniform(0, 0.02 * attempt))  # noqa: S311 - only jitter
    raise AssertionError("unreachable")


async def share(connection: Connection, organization_ids: Iterable[str]) -> None:
    """Fences organisations against changes of their periods, until the commit."""
    fences = sorted({_fence(organization_id) for organization_id in organization_ids})
    await connection.execute(
        "select pg_advisory_xact_lock_shared(fence) from unnest($1::bigint[]) fence", fences
    )


async def exclude(connection: Connection, organization_id: str) -> None:
    """Waits until nobody moves tokens of an organisation, and keeps it so until the commit."""
    await connection.execute("select pg_advisory_xact_lock($1)", _fence(organization_id))


@lru_cache(maxsize=10_000)
def _fence(organization_id: str) -> int:
    # Two organisations that share a number would only wait for each other at times.
    return int.from_bytes(uuid.UUID(organization_id).bytes[-8:], signed=True)
