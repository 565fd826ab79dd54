"""Native gRPC through Envoy: statuses, details and metadata are gRPC's own, never JSON."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from ias.inference.v1 import (
    catalog_pb2,
    chat_pb2,
    chat_pb2_grpc,
    completions_pb2,
    embeddings_pb2,
)
from ias_front import Front, denied, model_of

GOOD = (("authorization", "Bearer good"),)


async def test_a_typed_chat_is_routed_by_its_model(front: Front) -> None:
    async def answer(_: bytes, __: Any) -> AsyncIterator[bytes]:
        yield chat_pb2.ChatResponse(id="1", model="org/m").SerializeToString()

    front.inference.behaviours["Chat"] = answer
    async with front.channel() as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        response = await stub.Chat(chat_pb2.ChatRequest(model="org/m"), metadata=GOOD)
    assert response.id == "1"
    assert [model_of(check) for check in front.authorization.checks] == ["org/m"]


NAMING: dict[str, Any] = {
    "ChatService/Chat": chat_pb2.ChatRequest,
    "ChatService/StreamChat": chat_pb2.StreamChatRequest,
    "CompletionService/Complete": completions_pb2.CompleteRequest,
    "CompletionService/StreamComplete": completions_pb2.StreamCompleteRequest,
    "EmbeddingService/Embed": embeddings_pb2.EmbedRequest,
    "CatalogService/GetAvailableModel": catalog_pb2.GetAvailableModelRequest,
}


@pytest.mark.parametrize("method", NAMING)
async def test_identity_sees_the_model_of_every_typed_call(front: Front, method: str) -> None:
    request = NAMING[method](model="org/m").SerializeToString()
    async with front.channel() as channel:
        call = channel.unary_stream(f"/ias.inference.v1.{method}")(request, metadata=GOOD)
        assert [message async for message in call] == [b""]
    assert [model_of(check) for check in front.authorization.checks] == ["org/m"]
    assert front.reached == [f"/ias.inference.v1.{method}"]


async def test_a_typed_stream_comes_piece_by_piece(front: Front) -> None:
    async def stream(_: bytes, __: Any) -> AsyncIterator[bytes]:
        for content in "abc":
            yield chat_pb2.StreamChatResponse(content=content).SerializeToString()

    front.inference.behaviours["StreamChat"] = stream
    async with front.channel() as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        call = stub.StreamChat(chat_pb2.StreamChatRequest(model="m"), metadata=GOOD)
        assert [piece.content async for piece in call] == ["a", "b", "c"]
    assert [model_of(check) for check in front.authorization.checks] == ["m"]


async def test_a_failure_keeps_its_code_message_and_details(front: Front) -> None:
    async def abort(_: bytes, context: Any) -> AsyncIterator[bytes]:
        await context.send_initial_metadata((("x-ias-http-status", "429"),))
        trailers = (("grpc-status-details-bin", b"details"), ("retry", "later"))
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room", trailers)
        yield b""

    front.inference.behaviours["Chat"] = abort
    async with front.channel() as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Chat(chat_pb2.ChatRequest(model="m"), metadata=GOOD)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.details() == "no room"
    assert dict(refused.value.trailing_metadata())["grpc-status-details-bin"] == b"details"
    assert "x-ias-http-status" not in dict(refused.value.initial_metadata())


async def test_a_denial_keeps_the_status_that_identity_gave_it(front: Front) -> None:
    denial = denied(429, "x")
    denial.denied_response.body = "Too much."
    header = denial.denied_response.headers.add()
    header.header.key, header.header.value = "grpc-status", "8"
    front.authorization.denial = denial
    async with front.channel() as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Chat(chat_pb2.ChatRequest(model="m"))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.details() == "Too much."
    assert front.reached == []


async def test_envoys_own_replies_are_no_json(front: Front) -> None:
    async with front.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await channel.unary_unary("/no.such.Service/Method")(b"", metadata=GOOD)
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as unavailable:
            await stub.Chat(chat_pb2.ChatRequest(model="elsewhere"), metadata=GOOD)
    assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert unavailable.value.code() is grpc.StatusCode.UNAVAILABLE
    for refused in (unknown, unavailable):
        assert "{" not in (refused.value.details() or "")


@pytest.mark.parametrize("size", [2 * 1024 * 1024, 16 * 1024 * 1024])
async def test_a_large_message_arrives(front: Front, size: int) -> None:
    messages = [chat_pb2.ChatMessage(content="x" * size)]
    request = chat_pb2.ChatRequest(model="m", messages=messages)
    async with front.channel() as channel:
        await chat_pb2_grpc.ChatServiceStub(channel).Chat(request, metadata=GOOD)
    assert len(front.inference.calls[0].request) > size
