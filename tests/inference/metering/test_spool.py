"""The spool: what is recorded is there after `kill -9`, once, and a full one closes admission."""

import asyncio
import resource
import signal
import sqlite3
import sys
from pathlib import Path

import pytest
from ias.metering.v1 import events_pb2 as pb

from ias_inference.adapters.spool import Spool
from ias_inference.adapters.spool import file as file_module
from ias_inference.adapters.spool import spool as spool_module
from ias_inference.domain.usage import UsageStatus
from ias_runtime.errors import Unavailable

PLENTY = {"max_bytes": 10**9, "max_events": 10**6}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "usage" / "spool.db")


def all_events(spool, limit=500):
    events = []
    while batch := spool.take(limit):
        events += [pb.UsageEvent.FromString(one.body) for one in batch]
    return events


async def test_an_event_is_spooled_with_every_fact(path, usage):
    recorded = usage(
        lease_id="l",
        streamed=True,
        status=UsageStatus.CUT_OFF,
        prompt_price_nanos=1_000_000,
        completion_price_nanos=3_000_000,
        cached_tokens=2,
        time_to_first_token_us=1234,
        duration_us=5678,
    )
    async with Spool(path, **PLENTY) as spool:
        await spool.record(recorded)
        [event] = all_events(spool)
    assert event == pb.UsageEvent(
        event_id=recorded.event_id,
        occurred_at={"seconds": 1_795_177_800, "nanos": 250_000_000},
        organization_id=recorded.organization_id,
        user_id=recorded.user_id,
        api_key_id=recorded.api_key_id,
        lease_id="l",
        model="mock-gpt",
        operation="chat",
        status=pb.USAGE_STATUS_CUT_OFF,
        prompt_tokens=7,
        completion_tokens=5,
        cached_tokens=2,
        cost_nanos=7_000 + 15_000,
        time_to_first_token_us=1234,
        duration_us=5678,
        request_id=recorded.request_id,
        streamed=True,
    )


async def test_events_come_in_the_order_of_recording_and_once(path, usage):
    ids = [f"event {n}" for n in range(1200)]
    async with Spool(path, **PLENTY) as spool:
        for event_id in ids:
            await spool.record(usage(event_id=event_id))
        assert [event.event_id for event in all_events(spool)] == ids
        assert spool.take(500) == []


async def test_what_was_not_removed_is_there_after_a_restart(path, usage):
    async with Spool(path, **PLENTY) as spool:
        for n in range(10):
            await spool.record(usage(event_id=f"event {n}"))
        spool.remove(spool.take(4))
    async with Spool(path, **PLENTY) as spool:
        left = [event.event_id for event in all_events(spool)]
    assert left == [f"event {n}" for n in range(4, 10)]


async def test_a_long_spool_is_read_from_the_file_and_stays_in_order(path, usage, monkeypatch):
    monkeypatch.setattr(spool_module, "WINDOW", 10)
    ids = [f"event {n}" for n in range(300)]
    async with Spool(path, **PLENTY) as spool:
        got = []
        for n, event_id in enumerate(ids):
            await spool.record(usage(event_id=event_id))
            if n % 50 == 49:
                batch = spool.take(20)
                got += [pb.UsageEvent.FromString(one.body).event_id for one in batch]
                assert len(spool._ready) <= 10
        got += [event.event_id for event in all_events(spool)]
    assert got == ids


async def test_the_final_event_replaces_its_checkpoints(path, usage):
    running = usage(completion_tokens=64)
    async with Spool(path, **PLENTY) as spool:
        spool.checkpoint(running)
        running.completion_tokens = 128
        spool.checkpoint(running)
        await asyncio.sleep(0.05)
        running.completion_tokens = 130
        await spool.record(running)
        [event] = all_events(spool)
        assert event.completion_tokens == 130
    async with Spool(path, **PLENTY) as spool:
        assert [one.completion_tokens for one in all_events(spool)] == [130]


async def test_a_second_process_is_refused_with_a_clear_message(path):
    async with Spool(path, **PLENTY):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OPEN, path, stderr=asyncio.subprocess.PIPE
        )
        _, stderr = await child.communicate()
    assert f"The spool {path} is in use by another process." in stderr.decode()


OPEN = """
import asyncio, sys
from ias_inference.adapters.spool import Spool
async def main():
    async with Spool(sys.argv[1], 10**9, 10**6):
        pass
asyncio.run(main())
"""

# Records finals and checkpoints without end, and says on stdout what must survive.
STREAM = """
import asyncio, sys
from datetime import UTC, datetime
from ias_inference.adapters.spool import Spool
from ias_inference.domain.usage import Usage, UsageStatus

def usage(event_id):
    return Usage(event_id=event_id, occurred_at=datetime.now(UTC), organization_id="o",
                 user_id="u", api_key_id="k", model="m", operation="chat", request_id="r",
                 streamed=True, status=UsageStatus.COMPLETED)

async def client(spool, name):
    for n in range(10**9):
        running = usage(f"{name}-{n}")
        for tokens in (64, 128):
            running.completion_tokens = tokens
            spool.checkpoint(running)
            await asyncio.sleep(0)
        running.completion_tokens = 200
        await spool.record(running)
        print(running.event_id, flush=True)

async def main():
    async with Spool(sys.argv[1], 10**9, 10**9) as spool:
        await asyncio.gather(*(client(spool, name) for name in range(20)))

asyncio.run(main())
"""


@pytest.mark.parametrize("after", [1, 50, 2000])
async def test_after_kill_9_every_recorded_event_is_there_once(path, after):
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STREAM, path, stdout=asyncio.subprocess.PIPE
    )
    told = [await child.stdout.readline() for _ in range(after)]
    child.send_signal(signal.SIGKILL)
    told += (await child.stdout.read()).splitlines(keepends=True)
    await child.wait()
    promised = {line.decode().strip() for line in told if line.endswith(b"\n")}
    async with Spool(path, **PLENTY) as spool:
        events = all_events(spool)
    ids = [event.event_id for event in events]
    assert len(ids) == len(set(ids))
    assert promised <= set(ids)
    finals = {event.event_id for event in events if event.status == pb.USAGE_STATUS_COMPLETED}
    assert promised <= finals
    for event in events:
        if event.event_id not in finals:  # charged by the last checkpoint
            assert event.status == pb.USAGE_STATUS_INTERRUPTED
            assert event.completion_tokens in (64, 128)
    assert len(events) - len(finals) <= 20


async def test_a_full_spool_closes_admission_until_events_are_confirmed(path, usage):
    async with Spool(path, max_bytes=10**9, max_events=3) as spool:
        for _ in range(3):
            spool.check()
            await spool.record(usage())
        with pytest.raises(Unavailable) as full:
            spool.check()
        assert full.value.reason == "SPOOL_FULL"
        await spool.record(usage())  # what runs is still recorded
        spool.remove(spool.take(2))
        spool.check()


async def test_the_limit_in_bytes_holds_too_also_after_a_restart(path, usage):
    async with Spool(path, max_bytes=1000, max_events=10**6) as spool:
        for _ in range(5):
            await spool.record(usage())
        with pytest.raises(Unavailable):
            spool.check()
    async with Spool(path, max_bytes=1000, max_events=10**6) as spool:
        with pytest.raises(Unavailable):
            spool.check()
        spool.remove(spool.take(500))
        spool.check()


@pytest.fixture
def disk():
    """Lets files grow no further, as a full disk would, for this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(size_bytes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))

    yield full
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_closes_admission_and_nothing_is_lost_when_it_has_room_again(
    path, usage, disk
):
    async with Spool(path, **PLENTY) as spool:
        recorded = []
        disk(200_000)

        async def record_until_it_fails():
            while True:
                recorded.append(f"event {len(recorded)}")
                await spool.record(usage(event_id=recorded[-1]))

        with pytest.raises(Unavailable) as full:
            await record_until_it_fails()
        assert full.value.reason == "SPOOL_FULL"
        with pytest.raises(Unavailable):
            spool.check()
        disk(resource.RLIM_INFINITY)
        async with asyncio.timeout(5):
            while True:
                try:
                    spool.check()
                    break
                except Unavailable:
                    await asyncio.sleep(0.05)
        # Also the event whose request was answered with an error was used, and is charged.
        assert [event.event_id for event in all_events(spool)] == recorded
    async with Spool(path, **PLENTY) as spool:
        assert [event.event_id for event in all_events(spool)] == recorded


async def test_the_file_does_not_grow_with_what_passes_through(path, usage):
    async with Spool(path, **PLENTY) as spool:
        for _ in range(20):
            await asyncio.gather(*(spool.record(usage()) for _ in range(500)))
            spool.remove(spool.take(500))
    assert Path(path).stat().st_size < 2_000_000


async def test_the_wal_is_moved_while_events_come_in_and_begins_anew(path, usage, monkeypatch):
    monkeypatch.setattr(file_module, "_WAL_BYTES", 200_000)
    ids = [f"event {n}" for n in range(2000)]
    async with Spool(path, **PLENTY) as spool:
        for at in range(0, len(ids), 2):
            await asyncio.gather(*(spool.record(usage(event_id=one)) for one in ids[at : at + 2]))
        # 1 000 commits of two or three pages of 4 KiB each: without moves some 10 MB.
        assert Path(path + "-wal").stat().st_size < 3_000_000
        assert [event.event_id for event in all_events(spool)] == ids


async def test_a_record_waits_while_the_file_is_busy(path, usage):
    async with Spool(path, **PLENTY) as spool:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        recording = asyncio.create_task(spool.record(usage(event_id="waits")))
        done, _ = await asyncio.wait([recording], timeout=0.05)
        assert not done
        spool.check()  # busy is not full
        other.execute("COMMIT")
        await asyncio.wait_for(recording, 5)
        assert [event.event_id for event in all_events(spool)] == ["waits"]
        other.close()
