"""The probe of an adapter, against real servers in every state that one can be in."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import ias_testing
import pytest
from grpc_health.v1 import health_pb2
from ias.inference.v1 import engine_pb2
from inference_support import AnAdapter

from ias_inference.adapters.engines.mock_adapter import MockAdapter
from ias_inference.adapters.engines.probes import Probes
from ias_inference.adapters.engines.remote import RemoteAdapters
from ias_inference.domain.engines import Adapter, Served
from ias_inference.domain.model_management import Probe
from ias_inference.domain.models import Backend, EngineKind
from ias_inference.grpc_api.engine import EngineApi
from ias_runtime import server
from ias_runtime.caller_token import CallerVerifier, MeshSigner
from ias_runtime.rpc import Binding
from ias_runtime.settings import ChassisSettings

ENGINE = engine_pb2.DESCRIPTOR.services_by_name["EngineService"]
TINY = Served("tiny", 2048)


class Stuck:
    """An EngineService that never answers."""

    async def GetServedModels(self, _: Any, __: Any) -> engine_pb2.GetServedModelsResponse:
        await asyncio.Event().wait()
        raise AssertionError


def bound(adapter: Adapter) -> list[Binding]:
    return [Binding(ENGINE, EngineApi(adapter))]


@asynccontextmanager
async def an_adapter(
    bindings: Sequence[Binding],
    *,
    serving: bool = True,
    mesh_secret: str = ias_testing.MESH_SECRET,
) -> AsyncIterator[str]:
    """An adapter process as far as a probe sees of it; gives its address."""
    settings = ChassisSettings(
        database_url="postgresql://unused",
        caller_public_keys=ias_testing.PUBLIC_KEY,
        mesh_secret=mesh_secret,
    )
    address = ias_testing.free_address()
    service = server.Service("inference", address, "", bindings)
    verifier = CallerVerifier([ias_testing.PUBLIC_KEY], mesh_secret, "inference")
    built, health = server.build(settings, service, verifier)
    if not serving:
        await server.set_serving(health, service, health_pb2.HealthCheckResponse.NOT_SERVING)
    await built.start()
    try:
        yield address
    finally:
        await built.stop(0)


async def probed(address: str, timeout_s: float = 5.0) -> Probe:
    mesh = MeshSigner(ias_testing.MESH_SECRET, "inference", "inference")
    async with Probes(mesh, timeout_s) as probes:
        return await probes.probe(Backend(EngineKind.VLLM, f"grpc://{address}", "tiny"))


@pytest.mark.parametrize(
    ("adapter", "served"),
    [
        pytest.param(AnAdapter(TINY, Served("also")), (TINY, Served("also")), id="an engine"),
        pytest.param(MockAdapter(), None, id="a mock, which takes any name"),
        pytest.param(RemoteAdapters(), (), id="no engine at all"),
    ],
)
async def test_it_is_heard_what_an_adapter_serves(
    adapter: Adapter, served: tuple[Served, ...] | None
) -> None:
    async with an_adapter(bound(adapter)) as address:
        probe = await probed(address)
    assert (probe.reachable, probe.served, probe.problem) == (True, served, "")
    assert probe.latency_ms > 0


async def test_an_adapter_that_is_loading_is_not_ready_and_not_asked_further() -> None:
    adapter = AnAdapter(TINY)
    async with an_adapter(bound(adapter), serving=False) as address:
        probe = await probed(address)
    assert (probe.reachable, probe.served) == (True, None)
    assert probe.problem == "The adapter is not ready to serve."
    assert adapter.asked == 0


async def test_an_engine_that_has_just_died_is_not_ready_whatever_its_health_still_says() -> None:
    adapter = AnAdapter(TINY)
    adapter.dead = True
    async with an_adapter(bound(adapter)) as address:
        probe = await probed(address)
    assert (probe.reachable, probe.served) == (True, None)
    assert probe.problem == "The adapter is not ready to serve."


async def test_an_adapter_of_an_older_release_is_told_as_such() -> None:
    async with an_adapter([]) as address:
        probe = await probed(address)
    assert (probe.reachable, probe.served) == (True, None)
    assert "older release" in probe.problem


async def test_an_adapter_of_another_installation_is_told_as_such() -> None:
    adapter = AnAdapter(TINY)
    other = "another mesh secret of more than 32 characters"
    async with an_adapter(bound(adapter), mesh_secret=other) as address:
        probe = await probed(address)
    assert (probe.reachable, probe.served) == (True, None)
    assert "mesh secret" in probe.problem
    assert adapter.asked == 0


async def test_an_adapter_that_hangs_costs_no_more_than_the_time_for_a_probe() -> None:
    started = time.monotonic()
    async with an_adapter([Binding(ENGINE, Stuck())]) as address:
        probe = await probed(address, timeout_s=0.5)
        assert time.monotonic() - started < 2
    assert (probe.reachable, probe.served) == (True, None)
    assert probe.problem == "It did not say in time what it serves."


async def test_where_nobody_listens_there_is_no_adapter() -> None:
    probe = await probed(ias_testing.free_address())
    assert not probe.reachable
    assert "can't be reached" in probe.problem
