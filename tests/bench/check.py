"""How many Checks a second one process of identity answers, over a real gRPC connection.

    IAS_TEST_DATABASE_URL=… IAS_TEST_REDIS_URL=… python tests/bench/check.py

Prints checks/s and latency for hot keys (the usual case), for keys that this process has not seen
(Redis or Postgres is asked), and for made-up keys. Load generator and service are two processes;
where they share too few cores, the CPU time of each check says more than the rate.
"""

import argparse
import asyncio
import multiprocessing
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import grpc
from identity_support import check_request, fresh_database, make_settings, running

from ias_identity import wiring
from ias_identity.domain import api_keys
from ias_runtime import server
from ias_runtime.caller_token import CallerVerifier

_CHECK = "/envoy.service.auth.v3.Authorization/Check"


def _serve(settings, socket: str) -> None:
    async def serve() -> None:
        async with wiring.opening(settings) as service:
            verifier = CallerVerifier(settings.public_keys(), "m" * 40, "identity")
            aio_server, _ = server.build(settings, service, verifier)
            await aio_server.start()
            await aio_server.wait_for_termination()

    asyncio.run(serve())


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _measure(socket: str, bodies: list[bytes], concurrency: int, pid: int) -> str:
    latencies: list[float] = []
    queue = iter(bodies)
    async with grpc.aio.insecure_channel(socket) as channel:
        call = channel.unary_unary(_CHECK)
        await asyncio.wait_for(channel.channel_ready(), 30)

        async def work() -> None:
            for body in queue:
                started = time.perf_counter()
                await call(body)
                latencies.append(time.perf_counter() - started)

        started, burnt = time.perf_counter(), _cpu_seconds(pid)
        await asyncio.gather(*(work() for _ in range(concurrency)))
        seconds = time.perf_counter() - started
        burnt = (_cpu_seconds(pid) - burnt) / len(bodies) * 1e6
    latencies.sort()
    p50, p99 = (latencies[int(len(latencies) * q)] * 1000 for q in (0.5, 0.99))
    rate = f"{len(bodies) / seconds:9.0f}/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms"
    return f"{rate}   {burnt:6.0f} µs of the service's CPU each"


async def _keys(settings, count: int) -> list[str]:
    async with running(settings) as identity:
        tenant = await identity.new_tenant()
        keys = [api_keys.generate() for _ in range(count)]
        hasher = api_keys.KeyHasher(settings.key_pepper.get_secret_value())
        await identity.pool.executemany(
            "insert into identity.api_keys (id, lookup, organization_id, user_id, name, display,"
            " secret_hash, allowed_models, allowed_cidrs, created_at)"
            " values (gen_random_uuid(), $1, $2, $3, 'bench', '', $4, '{}', '{}', now())",
            [(k[4:16], tenant.id, tenant.user_user.id, hasher.hash(k)) for k in keys],
        )
        return keys


async def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", type=int, default=20_000)
    parser.add_argument("--keys", type=int, default=5_000)
    parser.add_argument("--concurrency", type=int, default=32)
    options = parser.parse_args()
    async with fresh_database() as url:
        settings = make_settings(url, os.environ["IAS_TEST_REDIS_URL"])
        keys = await _keys(settings, options.keys)
        socket = f"unix:/tmp/ias-bench-{os.getpid()}.sock"
        settings = settings.model_copy(update={"identity_listen": socket})
        process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(settings, socket)
        )
        process.start()
        pid = process.pid or 0
        hot = [check_request(key, model="m").SerializeToString() for key in keys[:100]]
        cold = [check_request(key, model="m").SerializeToString() for key in keys[100:]]
        fake = [check_request("ias_" + "A" * 52).SerializeToString()] * (options.checks // 4)
        try:
            await _measure(socket, hot, 4, pid)
            rounds = options.checks // len(hot)
            print("hot keys    ", await _measure(socket, hot * rounds, options.concurrency, pid))
            print("cold keys   ", await _measure(socket, cold, options.concurrency, pid))
            print("made-up keys", await _measure(socket, fake, options.concurrency, pid))
        finally:
            process.terminate()
            process.join()


if __name__ == "__main__":
    asyncio.run(main())
