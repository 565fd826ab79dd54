"""A service that takes long to start, or can't go on, says so to health checks."""

import subprocess
import sys
import time
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ias_testing import MESH_SECRET, PUBLIC_KEY, free_address

PROGRAM = """
import asyncio, sys
from contextlib import asynccontextmanager
from ias_runtime import server
from ias_runtime.settings import ChassisSettings

@asynccontextmanager
async def opening():
    loop, heard = asyncio.get_running_loop(), {"loaded": asyncio.Event(), "dead": asyncio.Event()}

    def listen():
        for line in sys.stdin:
            loop.call_soon_threadsafe(heard[line.strip()].set)

    loop.run_in_executor(None, listen)
    yield server.Service(
        name="test", listen=sys.argv[1], metrics_listen="", bindings=[],
        start=heard["loaded"].wait, died=heard["dead"].wait,
    )

asyncio.run(server.serve(ChassisSettings(), opening))
"""
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Program:
    def __init__(self) -> None:
        address = free_address()
        environment = {
            "IAS_DATABASE_URL": "postgresql://unused",
            "IAS_CALLER_PUBLIC_KEYS": PUBLIC_KEY,
            "IAS_MESH_SECRET": MESH_SECRET,
            "IAS_DRAIN_S": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, address],
            env=environment, stdin=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.channel = grpc.insecure_channel(address)
        self._health = health_pb2_grpc.HealthStub(self.channel)

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def health(self) -> int:
        asked = health_pb2.HealthCheckRequest()
        return self._health.Check(asked, timeout=10, wait_for_ready=True).status

    def becomes(self, status: int) -> None:
        deadline = time.monotonic() + 5
        while self.health() != status:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def program() -> Iterator[Program]:
    started = Program()
    yield started
    started.channel.close()
    started.process.kill()
    started.process.wait()


def test_loading_ready_and_dead_are_told_apart(program: Program) -> None:
    assert program.health() == NOT_SERVING, "it loads"
    program.tell("loaded")
    program.becomes(SERVING)
    program.tell("dead")
    program.becomes(NOT_SERVING)
    # Whoever watches it starts it anew: the end is a failure.
    assert program.process.stdin is not None
    program.process.stdin.close()
    assert program.process.wait(10) == 70


def test_sigterm_while_loading_is_a_proper_end(program: Program) -> None:
    assert program.health() == NOT_SERVING
    program.process.terminate()
    assert program.process.stdin is not None
    program.process.stdin.close()
    assert program.process.wait(10) == 0
