"""The catalog: a caller sees what it may call, and nothing else."""

import grpc
import ias_testing
import pytest
from ias.inference.v1 import catalog_pb2 as pb
from inference_support import Gateway, a_caller


async def names(gateway: Gateway, caller: object, size: int = 0, token: str = "") -> tuple:
    request = pb.ListAvailableModelsRequest(page_size=size, page_token=token)
    metadata = ias_testing.signed(caller)
    answer = await gateway.catalog.ListAvailableModels(request, metadata=metadata)
    return [model.name for model in answer.models], answer.next_page_token


async def test_models_are_listed_page_by_page_without_their_backends(gateway: Gateway) -> None:
    gateway.mock(name="org/name", prompt_price_nanos=5, context_length=100)
    gateway.mock(name="zeta")
    gateway.mock(name="off", enabled=False)
    assert await names(gateway, a_caller("")) == (["mock-gpt", "org/name", "zeta"], "")
    first, token = await names(gateway, a_caller(""), 2)
    assert first == ["mock-gpt", "org/name"]
    assert await names(gateway, a_caller(""), 2, token) == (["zeta"], "")
    assert "backend" not in pb.AvailableModel.DESCRIPTOR.fields_by_name


async def test_a_restricted_key_sees_its_own_models_alone(gateway: Gateway) -> None:
    gateway.mock(name="org/name", prompt_price_nanos=5, context_length=100)
    caller = a_caller("org/name", allowed_models=("org/name", "not-registered"))
    assert await names(gateway, caller) == (["org/name"], "")
    metadata = ias_testing.signed(caller)
    ask = pb.GetAvailableModelRequest
    shown = await gateway.catalog.GetAvailableModel(ask(model="org/name"), metadata=metadata)
    assert (shown.model.prompt_price_nanos, shown.model.context_length) == (5, 100)
    for name in ("mock-gpt", "ghost"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gateway.catalog.GetAvailableModel(ask(model=name), metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
