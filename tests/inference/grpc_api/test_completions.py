"""Typed completions, as a gRPC client of any language sees them."""

import asyncio

import grpc
import ias_testing
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from ias.inference.v1 import chat_pb2
from ias.inference.v1 import completions_pb2 as pb
from inference_support import FakeLeases, Gateway, a_caller, a_gateway

from ias_inference.domain.usage import UsageStatus

METADATA = ias_testing.signed(a_caller(), x_request_id="req-1")


def ask(text: str = "Once upon a time", **parameters: object) -> pb.CompleteRequest:
    given = pb.CompletionParameters(**parameters)  # type: ignore[arg-type]
    return pb.CompleteRequest(model="mock-gpt", text=text, parameters=given)


def streamed(request: pb.CompleteRequest) -> pb.StreamCompleteRequest:
    return pb.StreamCompleteRequest.FromString(request.SerializeToString())


async def test_a_text_is_continued_in_one_message(gateway: Gateway) -> None:
    answer = await gateway.completions.Complete(ask(max_tokens=50), metadata=METADATA)
    assert answer.finish_reason == chat_pb2.FINISH_REASON_STOP
    event = await gateway.recorder.next_event()
    assert event.operation == "completion"
    assert answer.usage.total_tokens == event.total_tokens
    assert len(answer.text.split()) == event.completion_tokens
    assert answer.create_time.seconds > 0


async def test_a_stream_says_the_same_and_ends_with_the_usage(gateway: Gateway) -> None:
    whole = await gateway.completions.Complete(ask(), metadata=METADATA)
    stub = gateway.completions
    pieces = [piece async for piece in stub.StreamComplete(streamed(ask()), metadata=METADATA)]
    assert "".join(piece.text for piece in pieces) == whole.text
    assert pieces[-1].usage == whole.usage
    assert pieces[-2].finish_reason == chat_pb2.FINISH_REASON_LENGTH
    assert whole.usage.completion_tokens == 16


async def test_token_ids_echo_and_stop(gateway: Gateway) -> None:
    ids = (await gateway.post("Tokenize", {"model": "mock-gpt", "prompt": "Once upon a time"})).json
    by_text = await gateway.completions.Complete(ask(echo=True), metadata=METADATA)
    by_ids = pb.CompleteRequest(
        model="mock-gpt",
        tokens=pb.TokenIds(ids=ids["tokens"]),
        parameters=pb.CompletionParameters(echo=True),
    )
    assert (await gateway.completions.Complete(by_ids, metadata=METADATA)).text == by_text.text
    assert by_text.text.startswith("Once upon a time")
    word = by_text.text.split()[8]
    stopped = await gateway.completions.Complete(ask(stop=[word]), metadata=METADATA)
    assert word not in stopped.text


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.CompleteRequest(text="Hi"), "model"),
        (pb.CompleteRequest(model="other", text="Hi"), "model"),
        (pb.CompleteRequest(model="mock-gpt"), "prompt"),
        (pb.CompleteRequest(model="mock-gpt", tokens=pb.TokenIds()), "tokens"),
        (pb.CompleteRequest(model="mock-gpt", tokens=pb.TokenIds(ids=[-1])), "tokens"),
        (ask(max_tokens=0), "parameters.max_tokens"),
        (ask(temperature=3), "parameters.temperature"),
        (ask(stop=[""]), "parameters.stop"),
    ],
)
async def test_a_bad_field_is_named(
    gateway: Gateway, request_: pb.CompleteRequest, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.completions.Complete(request_, metadata=METADATA)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in str(rpc_status.from_call(caught.value))
    assert gateway.recorder.events == []


async def test_a_used_up_budget_is_resource_exhausted_with_its_scope() -> None:
    async with a_gateway(FakeLeases(0)) as gateway:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gateway.completions.Complete(ask(), metadata=METADATA)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    quota = error_details_pb2.QuotaFailure()
    assert any(detail.Unpack(quota) for detail in rpc_status.from_call(caught.value).details)
    assert quota.violations[0].subject == "organization"


async def test_a_deadline_and_a_client_that_leaves_end_the_engine_s_work(gateway: Gateway) -> None:
    gateway.mock("mock:?tokens=1000&pace_ms=20")
    request = ask(max_tokens=1000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.completions.Complete(request, metadata=METADATA, timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await gateway.recorder.next_event()).status is UsageStatus.CANCELLED
    gateway.recorder.events.clear()
    call = gateway.completions.StreamComplete(streamed(request), metadata=METADATA)
    await call.read()
    call.cancel()
    async with asyncio.timeout(2):
        assert (await gateway.recorder.next_event()).status is UsageStatus.CANCELLED
