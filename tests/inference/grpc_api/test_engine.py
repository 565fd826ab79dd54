"""EngineService over a real channel: what a process says it serves."""

from typing import Any

import grpc
import ias_testing
import pytest
from ias.inference.v1 import engine_pb2 as pb
from inference_support import AnAdapter, a_gateway, an_admin

from ias_inference.adapters.engines.mock_adapter import MockAdapter
from ias_inference.domain.engines import Adapter, Served
from ias_runtime.caller_token import MeshSigner


async def told(adapter: Adapter | None, metadata: Any = None) -> pb.GetServedModelsResponse:
    """What another service of IAS gets, unless `metadata` speaks for someone else."""
    mesh = MeshSigner(ias_testing.MESH_SECRET, "inference", "inference")
    async with a_gateway(adapter=adapter) as gateway:
        return await gateway.engine.GetServedModels(
            pb.GetServedModelsRequest(), metadata=metadata or mesh.metadata()
        )


async def test_an_adapter_tells_each_name_and_its_context() -> None:
    answer = await told(AnAdapter(Served("tiny", 2048), Served("also-tiny", 2048)))
    models = [(model.name, model.context_length) for model in answer.models]
    assert models == [("tiny", 2048), ("also-tiny", 2048)]
    assert not answer.any_name


async def test_the_mock_in_an_adapters_place_takes_any_name() -> None:
    answer = await told(MockAdapter())
    assert (list(answer.models), answer.any_name) == ([], True)


async def test_a_process_without_an_engine_of_its_own_serves_nothing() -> None:
    answer = await told(None)
    assert (list(answer.models), answer.any_name) == ([], False)


async def test_an_engine_that_is_not_ready_is_unavailable() -> None:
    adapter = AnAdapter()
    adapter.dead = True
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await told(adapter)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_people_are_not_told() -> None:
    adapter = AnAdapter(Served("tiny"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await told(adapter, ias_testing.signed(an_admin()))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert adapter.asked == 0
