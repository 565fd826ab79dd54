"""How many budget decisions a second one process makes: `python tests/bench/leases.py`.

Draws and settles through MeteringLeases, with a metering on the same loop, over real gRPC.
"""

import asyncio
import importlib.util
import sys
import time
from pathlib import Path

import grpc

from ias_inference.adapters.leases import MeteringLeases
from ias_runtime.caller import Caller, CallerKind
from ias_runtime.caller_token import MeshSigner

SECONDS = 3.0


def _fake_metering() -> type:
    path = Path(__file__).parents[1] / "inference" / "metering" / "fake_metering.py"
    spec = importlib.util.spec_from_file_location("fake_metering", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_metering"] = module
    spec.loader.exec_module(module)
    return module.FakeMetering


async def main() -> None:
    metering = _fake_metering()(limit=10**15)
    mesh = MeshSigner("0" * 32, "inference", "metering")
    async with (
        metering.serving() as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        MeteringLeases(channel, mesh, "bench") as leases,
    ):
        for keys in (1, 100):
            callers = [
                Caller(
                    CallerKind.API_KEY, organization_id="o", user_id="u", api_key_id=f"{keys}-{n}"
                )
                for n in range(keys)
            ]
            before = len(metering.calls)
            start = time.perf_counter()
            done = 0
            while time.perf_counter() - start < SECONDS:
                for _ in range(100):
                    draw = await leases.draw(callers[done % keys], need=120, want=500, whole=False)
                    leases.settle(draw, 110)
                    done += 1
                await asyncio.sleep(0)
            took = time.perf_counter() - start
            calls = len(metering.calls) - before
            print(
                f"{keys:4} keys: {done / took:10,.0f} draws/s  {took / done * 1e6:6.2f} µs each  "
                f"{calls} calls to metering"
            )


asyncio.run(main())
