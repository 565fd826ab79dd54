"""POST /v1/rerank and /v1/score, on the mock."""

import json
from typing import Any

import pytest
from inference_support import Gateway

from ias_inference.domain.errors import InvalidRequest
from ias_inference.grpc_api import openai_rerank

DOCUMENTS = ["taxes are due", "a stone in the river", "the river is deep"]
RERANK: dict[str, Any] = {"model": "mock-gpt", "query": "a deep river", "documents": DOCUMENTS}
SCORE: dict[str, Any] = {"model": "mock-gpt", "text_1": "a deep river", "text_2": DOCUMENTS}


async def test_documents_come_in_the_order_of_their_relevance(gateway: Gateway) -> None:
    answer = await gateway.post("CreateRerank", RERANK)
    assert answer.status == 200
    results = answer.json["results"]
    scores = [result["relevance_score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert results[-1]["index"] == 0
    assert all(result["document"] == {"text": DOCUMENTS[result["index"]]} for result in results)
    assert answer.json["id"].startswith("rerank-")
    event = await gateway.recorder.next_event()
    expected = sum(4 + -(-len(document) // 3) for document in DOCUMENTS)
    assert (event.operation, event.prompt_tokens) == ("rerank", expected)
    assert answer.json["usage"]["total_tokens"] == expected


async def test_only_the_best_are_shown_if_asked_and_documents_need_not_be(gateway: Gateway) -> None:
    changes = {"top_n": 2, "return_documents": False}
    documents = [{"text": text} for text in DOCUMENTS]
    best = (await gateway.post("CreateRerank", RERANK | changes)).json["results"]
    assert [set(result) for result in best] == [{"index", "relevance_score"}] * 2
    objects = await gateway.post("CreateRerank", RERANK | changes | {"documents": documents})
    assert objects.json["results"] == best


async def test_scores_agree_with_the_order(gateway: Gateway) -> None:
    ranked = (await gateway.post("CreateRerank", RERANK)).json["results"]
    by_index = {result["index"]: result["relevance_score"] for result in ranked}
    one = await gateway.post("CreateScore", SCORE)
    assert [item["score"] for item in one.json["data"]] == [by_index[i] for i in range(3)]
    pairs = await gateway.post("CreateScore", SCORE | {"text_1": [SCORE["text_1"]] * 3})
    assert pairs.json["data"] == one.json["data"]
    assert gateway.recorder.events[-1].operation == "score"
    assert pairs.json["usage"] == one.json["usage"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"query": None}, "query"),
        ({"query": ""}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": "one"}, "documents"),
        ({"documents": ["a"] * 2049}, "documents"),
        ({"documents": [{"title": "a"}]}, "documents[0].text"),
        ({"top_n": 0}, "top_n"),
        ({"top_n": "all"}, "top_n"),
        ({"stream": True}, "stream"),
    ],
)
def test_a_bad_field_of_a_rerank_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        openai_rerank.parse_rerank(json.dumps(RERANK | changes).encode(), "")
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"text_1": None}, "text_1"),
        ({"text_1": ["a", "b"]}, "text_1"),
        ({"text_2": []}, "text_2"),
        ({"text_2": ["a"] * 2049}, "text_2"),
        ({"data_1": "a"}, "data_1"),
    ],
)
def test_a_bad_field_of_a_score_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        openai_rerank.parse_score(json.dumps(SCORE | changes).encode(), "")
    assert caught.value.field == field


def test_a_query_is_estimated_once_for_each_document() -> None:
    few = openai_rerank.parse_rerank(json.dumps(RERANK).encode(), "")
    size = len(json.dumps(RERANK))
    assert few.size_bytes == size + 2 * len(RERANK["query"])
