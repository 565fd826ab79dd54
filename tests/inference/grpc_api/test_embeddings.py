"""Typed embeddings, as a gRPC client of any language sees them."""

import grpc
import ias_testing
import pytest
from aiohttp import web
from grpc_status import rpc_status
from ias.inference.v1 import completions_pb2
from ias.inference.v1 import embeddings_pb2 as pb
from inference_support import FakeLeases, Gateway, a_caller, a_gateway, an_upstream

from ias_inference.domain.models import EngineKind

METADATA = ias_testing.signed(a_caller(), x_request_id="req-1")
TEXTS = ["a red stone", "taxes"]


def ask(*texts: str, **facts: object) -> pb.EmbedRequest:
    return pb.EmbedRequest(model="mock-gpt", texts=texts, **facts)  # type: ignore[arg-type]


async def test_the_vectors_are_those_of_the_openai_surface(gateway: Gateway) -> None:
    answer = await gateway.embeddings.Embed(ask(*TEXTS), metadata=METADATA)
    body = {"model": "mock-gpt", "input": TEXTS}
    expected = (await gateway.post("CreateEmbedding", body)).json
    found = [list(vector.values) for vector in answer.embeddings]
    assert found == [item["embedding"] for item in expected["data"]]
    assert answer.usage.prompt_tokens == expected["usage"]["prompt_tokens"]
    assert gateway.recorder.events[0].operation == "embedding"
    few = await gateway.embeddings.Embed(ask("a", dimensions=5), metadata=METADATA)
    assert len(few.embeddings[0].values) == 5


async def test_token_ids_are_embedded_too(gateway: Gateway) -> None:
    ids = (await gateway.post("Tokenize", {"model": "mock-gpt", "prompt": "taxes"})).json["tokens"]
    tokens = [completions_pb2.TokenIds(ids=ids)]
    by_ids = await gateway.embeddings.Embed(ask(tokens=tokens), metadata=METADATA)
    by_text = await gateway.embeddings.Embed(ask("taxes"), metadata=METADATA)
    assert by_ids.embeddings == by_text.embeddings


async def test_a_server_that_knows_no_base64_is_understood(gateway: Gateway) -> None:
    async def upstream(_: web.Request) -> web.StreamResponse:
        data = [{"index": 1, "embedding": [3, 4.5]}, {"index": 0, "embedding": [1.0, 2.0]}]
        return web.json_response({"data": data, "usage": {"prompt_tokens": 3}})

    async with an_upstream(upstream) as url:
        gateway.register("mock-gpt", url, EngineKind.OPENAI)
        answer = await gateway.embeddings.Embed(ask("a", "b"), metadata=METADATA)
    assert [list(vector.values) for vector in answer.embeddings] == [[1, 2], [3, 4.5]]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.EmbedRequest(texts=["a"]), "model"),
        (ask(), "texts"),
        (ask(""), "texts"),
        (ask(*["a"] * 2049), "texts"),
        (ask("a", tokens=[completions_pb2.TokenIds(ids=[1])]), "texts"),
        (ask(tokens=[completions_pb2.TokenIds()]), "tokens"),
        (ask(tokens=[completions_pb2.TokenIds(ids=[-1])]), "tokens"),
        (ask("a", dimensions=0), "dimensions"),
    ],
)
async def test_a_bad_field_is_named(
    gateway: Gateway, request_: pb.EmbedRequest, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.embeddings.Embed(request_, metadata=METADATA)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in str(rpc_status.from_call(caught.value))
    assert gateway.recorder.events == []


async def test_a_used_up_budget_is_resource_exhausted() -> None:
    async with a_gateway(FakeLeases(0)) as gateway:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gateway.embeddings.Embed(ask("a"), metadata=METADATA)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
