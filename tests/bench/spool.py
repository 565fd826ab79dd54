"""What recording a usage event costs: `python tests/bench/spool.py [folder]`.

Alone and in groups, on an idle loop and on one that is busy with other work.
"""

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from ias_inference.adapters.spool import Spool
from ias_inference.domain.usage import Usage

Record = Callable[[Usage], Awaitable[None]]


def usage() -> Usage:
    return Usage(
        event_id=str(uuid.uuid4()),
        occurred_at=datetime.now(UTC),
        organization_id=str(uuid.uuid4()),
        user_id=str(uuid.uuid4()),
        api_key_id=str(uuid.uuid4()),
        model="mock-gpt",
        operation="chat",
        request_id=str(uuid.uuid4()),
        streamed=False,
        prompt_tokens=100,
        completion_tokens=100,
    )


async def busy_work() -> None:
    """Turns of the loop of some 100 µs each, as those of a loaded server."""
    while True:
        until = time.perf_counter() + 100e-6
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0)


async def measure(record: Record, at_once: int, count: int, *, busy: bool) -> None:
    usages = [usage() for _ in range(count)]
    took: list[float] = []

    async def client(share: list[Usage]) -> None:
        for one in share:
            start = time.perf_counter()
            await record(one)
            took.append(time.perf_counter() - start)

    work = asyncio.create_task(busy_work()) if busy else None
    start = time.perf_counter()
    await asyncio.gather(*(client(usages[n::at_once]) for n in range(at_once)))
    rate = count / (time.perf_counter() - start)
    if work is not None:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
    cuts = statistics.quantiles(took, n=1000)
    print(
        f"{'busy' if busy else 'idle'} loop {at_once:5} at once: {rate:9,.0f}/s  "
        f"p50 {cuts[499] * 1e3:6.3f} ms  p99 {cuts[989] * 1e3:6.3f}  p99.9 {cuts[998] * 1e3:6.3f}"
    )


async def main(folder: str) -> None:
    async with Spool(str(Path(folder) / "spool.db"), 10**12, 10**9) as spool:
        for busy in (False, True):
            for at_once, count in ((1, 5_000), (32, 20_000), (1000, 60_000)):
                await measure(spool.record, at_once, count, busy=busy)


with tempfile.TemporaryDirectory() as scratch:
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else scratch))
