"""Fixtures for the metering side of inference: a metering to lease from, spools, a broker."""

import importlib.util
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest

from ias_inference.adapters.leases import MeteringLeases, Timing
from ias_inference.domain.usage import Usage, UsageStatus
from ias_runtime.caller import Caller, CallerKind, Role
from ias_runtime.caller_token import MeshSigner


def _sibling(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FakeMetering: Any = _sibling("fake_metering").FakeMetering
PrivateBroker: Any = _sibling("private_broker").PrivateBroker

QUICK = Timing(idle=0.2, scarce_idle=0.05, patience=0.6, refusal=0.3, call=0.5, margin=0.0)
"""Short waits, so that tests of waiting are quick."""


@pytest.fixture
def caller() -> Caller:
    """Somebody with an API key that no other test uses."""
    return Caller(
        kind=CallerKind.API_KEY,
        role=Role.ORG_USER,
        organization_id=str(uuid.uuid4()),
        user_id=str(uuid.uuid4()),
        api_key_id=str(uuid.uuid4()),
    )


class Leasing:
    """A metering and the processes that lease from it."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.metering = FakeMetering()
        self.port = 0
        self._stack = stack
        self._server = AsyncExitStack()
        self._stack.push_async_callback(self._server.aclose)

    async def start(self) -> None:
        """Starts metering, on the same port as before."""
        self.port = await self._server.enter_async_context(self.metering.serving(self.port))

    async def stop(self) -> None:
        """Stops metering."""
        await self._server.aclose()

    async def process(self, timing: Timing = QUICK) -> MeteringLeases:
        """One more process that leases from metering."""
        channel = await self._stack.enter_async_context(
            grpc.aio.insecure_channel(
                f"127.0.0.1:{self.port}",
                options=[
                    ("grpc.initial_reconnect_backoff_ms", 50),
                    ("grpc.min_reconnect_backoff_ms", 50),
                    ("grpc.max_reconnect_backoff_ms", 100),
                    ("grpc.use_local_subchannel_pool", 1),
                ],
            )
        )
        mesh = MeshSigner("0" * 32, "inference", "metering")
        leases = MeteringLeases(channel, mesh, str(uuid.uuid4()), timing)
        return await self._stack.enter_async_context(leases)


@asynccontextmanager
async def _leasing() -> AsyncIterator[Leasing]:
    async with AsyncExitStack() as stack:
        leasing = Leasing(stack)
        await leasing.start()
        yield leasing


@pytest.fixture
async def leasing() -> AsyncIterator[Leasing]:
    """A started metering without a limit; set `leasing.metering.limit`."""
    async with _leasing() as leasing:
        yield leasing


@pytest.fixture
def new_leasing() -> Callable[[], AbstractAsyncContextManager[Leasing]]:
    """Makes one for each example of a property test."""
    return _leasing


@pytest.fixture
def usage() -> Callable[..., Usage]:
    """Makes a usage; everything may be set by name."""

    def make(**facts: Any) -> Usage:
        return Usage(
            **{
                "event_id": str(uuid.uuid4()),
                "occurred_at": datetime(2026, 11, 20, 12, 30, 0, 250_000, tzinfo=UTC),
                "organization_id": str(uuid.uuid4()),
                "user_id": str(uuid.uuid4()),
                "api_key_id": str(uuid.uuid4()),
                "model": "mock-gpt",
                "operation": "chat",
                "request_id": str(uuid.uuid4()),
                "streamed": False,
                "status": UsageStatus.COMPLETED,
                "prompt_tokens": 7,
                "completion_tokens": 5,
                **facts,
            }
        )

    return make


@pytest.fixture(scope="session")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """A RabbitMQ of the tests' own, since they stop and start it."""
    if not PrivateBroker.installed():
        pytest.skip("RabbitMQ is not installed")
    folder = tmp_path_factory.mktemp("rabbitmq")
    broker = PrivateBroker(folder, int(os.environ.get("IAS_TEST_BROKER_PORT", "0")))
    await broker.start()
    yield broker
    await broker.stop()
