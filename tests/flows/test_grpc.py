"""Native gRPC with a key in the metadata: reflection, unary, streams, readable errors."""

import json
import subprocess
import time

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status
from ias.inference.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    chat_pb2,
    chat_pb2_grpc,
    completions_pb2,
    completions_pb2_grpc,
    embeddings_pb2,
    embeddings_pb2_grpc,
)


def request(kind, text: str, model: str):
    message = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=text)
    return kind(model=model, messages=[message])


@pytest.fixture
async def chat(stack):
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        yield chat_pb2_grpc.ChatServiceStub(channel)


def key(stack, value: str | None = None) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {value or stack.api_key}"),)


async def test_a_typed_client_chats(stack, chat):
    answer = await chat.Chat(
        request(chat_pb2.ChatRequest, "[mock tokens=9]", stack.model), metadata=key(stack)
    )
    assert answer.usage.completion_tokens == 9
    assert answer.finish_reason == chat_pb2.FINISH_REASON_STOP
    assert answer.message.role == chat_pb2.CHAT_ROLE_ASSISTANT


async def test_a_typed_client_streams_piece_by_piece(stack, chat):
    arrivals, pieces, last = [], [], None
    stream = chat.StreamChat(
        request(chat_pb2.StreamChatRequest, "[mock tokens=10 pace_ms=40]", stack.model),
        metadata=key(stack),
    )
    async for last in stream:
        arrivals.append(time.perf_counter())
        pieces.append(last.content)
    assert arrivals[-1] - arrivals[0] > 0.3
    assert last.usage.completion_tokens == 10
    assert "".join(pieces).strip()


@pytest.mark.parametrize(
    ("model", "token", "code", "reason"),
    [
        ("mock-gpt", "ias_" + "a" * 52, grpc.StatusCode.UNAUTHENTICATED, None),
        ("no-such", None, grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
    ],
)
async def test_failures_have_canonical_codes(stack, chat, model, token, code, reason):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await chat.Chat(request(chat_pb2.ChatRequest, "hi", model), metadata=key(stack, token))
    assert caught.value.code() is code
    if reason:
        assert info(caught.value).reason == reason


def info(error) -> error_details_pb2.ErrorInfo:
    for packed in rpc_status.from_call(error).details:
        found = error_details_pb2.ErrorInfo()
        if packed.Unpack(found):
            return found
    raise AssertionError("no ErrorInfo")


async def test_a_used_up_budget_is_resource_exhausted_with_its_scope(stack, chat):
    team = stack.new_team()
    stack.admin("budget", "set", "--org", team.org, "--tokens", "1")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await chat.Chat(
            request(chat_pb2.ChatRequest, "hi", stack.model), metadata=key(stack, team.key)
        )
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert info(caught.value).metadata["scope"] == "organization"


async def test_a_client_that_leaves_frees_the_engine(stack, chat):
    stream = chat.StreamChat(
        request(chat_pb2.StreamChatRequest, "[mock tokens=5000 pace_ms=20]", stack.model),
        metadata=key(stack),
    )
    await stream.read()
    stream.cancel()
    await stack.mock_idle(seconds=2)


async def test_completions_embeddings_and_the_catalog_are_typed_too(stack):
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        completions = completions_pb2_grpc.CompletionServiceStub(channel)
        ask = {"model": stack.model, "text": "Once"}
        whole = await completions.Complete(
            completions_pb2.CompleteRequest(**ask), metadata=key(stack)
        )
        stream = completions.StreamComplete(
            completions_pb2.StreamCompleteRequest(**ask), metadata=key(stack)
        )
        pieces = [piece async for piece in stream]
        assert "".join(piece.text for piece in pieces) == whole.text
        assert pieces[-1].usage == whole.usage
        embed = embeddings_pb2.EmbedRequest(model=stack.model, texts=["a", "b"], dimensions=8)
        vectors = await embeddings_pb2_grpc.EmbeddingServiceStub(channel).Embed(
            embed, metadata=key(stack)
        )
        assert [len(vector.values) for vector in vectors.embeddings] == [8, 8]
        catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
        listed = await catalog.ListAvailableModels(
            catalog_pb2.ListAvailableModelsRequest(), metadata=key(stack)
        )
        assert stack.model in {model.name for model in listed.models}
        shown = await catalog.GetAvailableModel(
            catalog_pb2.GetAvailableModelRequest(model=stack.model), metadata=key(stack)
        )
        assert shown.model in listed.models
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await catalog.GetAvailableModel(
                catalog_pb2.GetAvailableModelRequest(model="no-such"), metadata=key(stack)
            )
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        refused = completions_pb2.CompleteRequest(model="no-such", text="Hi")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await completions.Complete(refused, metadata=key(stack))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_services_are_listed_by_reflection(stack):
    with grpc.insecure_channel(stack.grpc) as plain:
        channel = grpc.intercept_channel(plain, WithKey(stack.api_key))
        services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert {
        "ias.identity.v1.ApiKeyService",
        "ias.inference.v1.CatalogService",
        "ias.inference.v1.ChatService",
        "ias.inference.v1.CompletionService",
        "ias.inference.v1.EmbeddingService",
        "ias.metering.v1.UsageService",
    } <= services


class WithKey(grpc.StreamStreamClientInterceptor):
    """Adds the key to the reflection stream."""

    def __init__(self, api_key: str) -> None:
        self._metadata = (("authorization", f"Bearer {api_key}"),)

    def intercept_stream_stream(self, continuation, details, requests):
        return continuation(details._replace(metadata=self._metadata), requests)


@pytest.mark.slow
def test_buf_curl_lists_and_chats(stack):
    header = f"authorization: Bearer {stack.api_key}"
    common = [stack.buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "--reflect",
              "--reflect-header", "*", "-H", header]  # fmt: skip
    url = f"http://{stack.grpc}"
    listed = subprocess.run(
        [*common, "--list-methods", url], capture_output=True, text=True, check=True
    ).stdout
    assert "ias.inference.v1.ChatService/StreamChat" in listed
    body = {"model": stack.model, "messages": [{"role": "CHAT_ROLE_USER", "content": "hi"}]}
    answer = subprocess.run(
        [*common, "-d", json.dumps(body), f"{url}/ias.inference.v1.ChatService/Chat"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert json.loads(answer)["message"]["content"]
