"""What must be done from time to time; each step is harmless when several replicas do it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from ias_runtime.postgres import Pool

log = structlog.get_logger()


async def every(seconds: float, what: str, work: Callable[[], Awaitable[object]]) -> None:
    """Does the work now and then again, until cancelled; a failure is logged and tried later."""
    while True:
        try:
            await work()
        except Exception as error:
            log.warning("upkeep failed", what=what, cause=type(error).__name__)
        await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - only jitter


async def prepare(pool: Pool, now: datetime) -> None:
    """Makes the partitions of the months ahead."""
    await pool.execute("select metering.ensure_partitions($1)", now)
