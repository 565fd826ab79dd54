"""POST /v1/embeddings, on the mock."""

import base64
import json
import math
import struct
from typing import Any

import pytest
from inference_support import FakeLeases, Gateway, a_gateway

from ias_inference.domain.errors import InvalidRequest
from ias_inference.grpc_api import openai_embeddings

ASK: dict[str, Any] = {"model": "mock-gpt", "input": ["a red stone", "the red stone", "taxes"]}


def vectors(answer: Any) -> list[list[float]]:
    return [item["embedding"] for item in answer.json["data"]]


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_texts_become_unit_vectors_that_are_near_when_they_share_words(
    gateway: Gateway,
) -> None:
    answer = await gateway.post("CreateEmbedding", ASK)
    assert answer.status == 200
    assert answer.json["object"] == "list"
    assert answer.json["model"] == "mock-gpt"
    assert [item["index"] for item in answer.json["data"]] == [0, 1, 2]
    found = vectors(answer)
    assert all(math.isclose(cosine(v, v), 1, rel_tol=1e-5) for v in found)
    assert cosine(found[0], found[1]) > 0.5 > cosine(found[0], found[2])
    assert vectors(await gateway.post("CreateEmbedding", ASK)) == found
    event = gateway.recorder.events[0]
    assert event.operation == "embedding"
    assert (event.prompt_tokens, event.completion_tokens) == (4 + 5 + 2, 0)
    assert answer.json["usage"] == {"prompt_tokens": 11, "total_tokens": 11}


async def test_base64_holds_the_same_numbers_as_little_endian_floats(gateway: Gateway) -> None:
    plain = vectors(await gateway.post("CreateEmbedding", ASK | {"encoding_format": "float"}))
    packed = await gateway.post("CreateEmbedding", ASK | {"encoding_format": "base64"})
    for text, expected in zip(vectors(packed), plain, strict=True):
        data = base64.b64decode(text)  # type: ignore[arg-type]
        assert list(struct.unpack(f"<{len(data) // 4}f", data)) == expected


async def test_the_number_of_dimensions_can_be_chosen(gateway: Gateway) -> None:
    answer = await gateway.post("CreateEmbedding", ASK | {"dimensions": 7})
    assert {len(vector) for vector in vectors(answer)} == {7}


async def test_token_ids_are_embedded_as_their_text(gateway: Gateway) -> None:
    ids = (await gateway.post("Tokenize", {"model": "mock-gpt", "prompt": "taxes"})).json["tokens"]
    expected = vectors(await gateway.post("CreateEmbedding", ASK))[2]
    for given in (ids, [ids]):
        answer = await gateway.post("CreateEmbedding", ASK | {"input": given})
        assert vectors(answer) == [expected]
        assert answer.json["usage"]["prompt_tokens"] == len(ids)


async def test_the_prompt_must_fit_the_budget_and_the_context() -> None:
    async with a_gateway(FakeLeases(11)) as gateway:
        assert (await gateway.post("CreateEmbedding", ASK)).status == 200
        assert gateway.leases.left == 0
        refused = await gateway.post("CreateEmbedding", ASK)
        assert refused.status == 429
        assert refused.error["code"] == "insufficient_quota"
        gateway.mock(context_length=4)
        long = await gateway.post("CreateEmbedding", ASK)
        assert long.error["code"] == "context_length_exceeded"
        assert long.error["param"] == "input"
        assert len(gateway.recorder.events) == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": ["a", 5]}, "input"),
        ({"input": [5.5]}, "input[0]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": {"text": "a"}}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 10**9}, "dimensions"),
        ({"stream": True}, "stream"),
        ({"messages": []}, "messages"),
        ({"truncate_prompt_tokens": 5}, "truncate_prompt_tokens"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        openai_embeddings.parse(json.dumps(ASK | changes).encode(), "application/json")
    assert caught.value.field == field
