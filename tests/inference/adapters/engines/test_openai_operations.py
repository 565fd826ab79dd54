"""The engine `openai` beyond chats: each operation's path, body, usage and streams."""

import json
from typing import Any

import pytest
from aiohttp import web
from inference_support import Gateway, HttpAnswer, a_caller, an_upstream

from ias_inference.domain import engines
from ias_inference.domain.models import EngineKind
from ias_inference.domain.usage import UsageStatus


class Server:
    """An upstream that notes path and body, and answers as told."""

    def __init__(self, answer: Any, status: int = 200) -> None:
        self.answer, self.status = answer, status
        self.path = ""
        self.asked: dict[str, Any] = {}

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.path = request.path
        self.asked = await request.json()
        if isinstance(self.answer, bytes):
            kind = "text/event-stream"
            return web.Response(body=self.answer, content_type=kind, status=self.status)
        return web.json_response(self.answer, status=self.status)


async def served(
    gateway: Gateway, server: Server, method: str, body: dict[str, Any], **facts: Any
) -> HttpAnswer:
    async with an_upstream(server) as url:
        gateway.register("up", url, EngineKind.OPENAI, upstream_model="inner", **facts)
        return await gateway.post(method, {"model": "up"} | body, caller=a_caller("up"))


def used(gateway: Gateway) -> tuple[str, int, int, int]:
    (event,) = gateway.recorder.events
    assert event.status is UsageStatus.COMPLETED
    return event.operation, event.prompt_tokens, event.completion_tokens, event.cached_tokens


def event(**payload: Any) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


async def test_completions(gateway: Gateway) -> None:
    choice = {"index": 0, "text": "there", "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    server = Server({"id": "x", "model": "inner", "choices": [choice], "usage": usage})
    body = {"prompt": "Hi", "logprobs": 1, "suffix": "!", "user": "me", "best_of": 1}
    answer = await served(gateway, server, "CreateCompletion", body)
    assert server.path == "/v1/completions"
    assert server.asked == {
        "model": "inner",
        "prompt": "Hi",
        "logprobs": 1,
        "suffix": "!",
        "max_tokens": 16,
    }
    assert answer.json["choices"] == [choice]
    assert answer.json["model"] == "up"
    assert answer.json["id"].startswith("cmpl-")
    assert used(gateway) == ("completion", 5, 2, 0)


async def test_a_stream_of_several_completions_is_counted_together(gateway: Gateway) -> None:
    def chunk(index: int, text: str, finish: str | None = None, **more: Any) -> bytes:
        choices = [{"index": index, "text": text, "finish_reason": finish}]
        return event(id="x", model="inner", **({"choices": choices} | more))

    server = Server(
        chunk(0, "a", usage={"prompt_tokens": 2, "completion_tokens": 1})
        + chunk(1, "b", usage={"prompt_tokens": 3, "completion_tokens": 1})
        + chunk(0, "", "stop")
        + chunk(1, "c", "length")
        + chunk(0, "", choices=[], usage={"prompt_tokens": 5, "completion_tokens": 3})
        + b"data: [DONE]\n\n"
    )
    answer = await served(
        gateway, server, "CreateCompletion", {"prompt": ["A", "B"], "stream": True}
    )
    assert [e["choices"][0]["text"] for e in answer.events] == ["a", "b", "", "c"]
    assert {e["model"] for e in answer.events} == {"up"}
    assert used(gateway) == ("completion", 5, 3, 0)


async def test_a_completion_stream_that_breaks_off_is_charged_for_what_came(
    gateway: Gateway,
) -> None:
    choices = [{"index": 0, "text": "a", "finish_reason": None}]
    server = Server(event(id="x", choices=choices) * 3)
    answer = await served(gateway, server, "CreateCompletion", {"prompt": "A", "stream": True})
    assert answer.events[-1]["error"]["type"] == "server_error"
    assert gateway.recorder.events[0].completion_tokens == 3


async def test_embeddings(gateway: Gateway) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": "AACAPw=="}]
    usage = {"prompt_tokens": 6, "total_tokens": 6}
    server = Server({"object": "list", "data": data, "model": "inner", "usage": usage})
    body = {"input": ["Hi", "you"], "encoding_format": "base64", "dimensions": 1}
    answer = await served(gateway, server, "CreateEmbedding", body)
    assert server.path == "/v1/embeddings"
    assert server.asked == body | {"model": "inner"}
    assert answer.json == {"object": "list", "data": data, "model": "up", "usage": usage}
    assert used(gateway) == ("embedding", 6, 0, 0)


async def test_a_reranker_that_tells_the_total_alone_is_charged_by_it(gateway: Gateway) -> None:
    results = [{"index": 0, "relevance_score": 0.5, "document": {"text": "a"}}]
    server = Server({"id": "x", "results": results, "usage": {"total_tokens": 9}})
    answer = await served(
        gateway, server, "CreateRerank", {"query": "q", "documents": [{"text": "a"}], "top_n": 1}
    )
    assert server.path == "/v1/rerank"
    assert server.asked == {"model": "inner", "query": "q", "documents": ["a"], "top_n": 1}
    assert answer.json["results"] == results
    assert answer.json["id"].startswith("rerank-")
    assert used(gateway) == ("rerank", 9, 0, 0)


async def test_a_reranker_that_tells_nothing_is_charged_by_what_is_likely(gateway: Gateway) -> None:
    body = {"query": "a question", "documents": ["an answer"] * 50}
    await served(gateway, Server({"results": []}), "CreateRerank", body)
    assert 100 < used(gateway)[1] < 500


async def test_scores(gateway: Gateway) -> None:
    data = [{"index": 0, "object": "score", "score": 0.25}]
    server = Server({"id": "x", "data": data, "model": "inner", "usage": {"prompt_tokens": 4}})
    answer = await served(gateway, server, "CreateScore", {"text_1": "a", "text_2": "b"})
    assert server.path == "/v1/score"
    assert answer.json["data"] == data
    assert used(gateway) == ("score", 4, 0, 0)


async def test_tokens_are_asked_for_beside_v1_and_charged_to_nobody(gateway: Gateway) -> None:
    server = Server({"count": 2, "max_model_len": 99, "tokens": [5, 6], "token_strs": None})
    answer = await served(gateway, server, "Tokenize", {"prompt": "Hi"})
    assert server.path == "/tokenize"
    assert server.asked == {"model": "inner", "prompt": "Hi"}
    assert answer.json == server.answer
    server = Server({"prompt": "Hi"})
    answer = await served(gateway, server, "Detokenize", {"tokens": [5, 6]})
    assert server.path == "/detokenize"
    assert answer.json == {"prompt": "Hi"}
    assert gateway.recorder.events == []
    assert gateway.leases.settled == []


async def test_a_response(gateway: Gateway) -> None:
    usage = {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens": 4,
        "total_tokens": 11,
    }
    output = [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}]
    server = Server({"id": "resp_x", "model": "inner", "output": output, "usage": usage})
    body = {"input": "Hi", "instructions": "Be kind.", "store": True, "metadata": {"a": "b"}}
    answer = await served(gateway, server, "CreateResponse", body)
    assert server.path == "/v1/responses"
    expected = body | {"model": "inner", "store": False, "max_output_tokens": 4096}
    assert server.asked == expected
    assert answer.json["output"] == output
    assert answer.json["model"] == "up"
    assert answer.json["id"].startswith("resp_")
    assert used(gateway) == ("response", 7, 4, 3)


async def test_a_stream_of_a_response_keeps_its_events_and_their_names(gateway: Gateway) -> None:
    head = {"id": "resp_x", "model": "inner", "usage": None}
    usage = {"input_tokens": 7, "output_tokens": 9, "total_tokens": 16}
    server = Server(
        b"event: response.created\n"
        + event(type="response.created", sequence_number=0, response=head)
        + b"event: response.output_text.delta\n"
        + event(type="response.output_text.delta", sequence_number=1, delta="Hé")
        + b"event: response.completed\n"
        + event(type="response.completed", sequence_number=2, response=head | {"usage": usage})
    )
    answer = await served(gateway, server, "CreateResponse", {"input": "Hi", "stream": True})
    assert server.asked["stream"] is True
    assert "stream_options" not in server.asked
    names = [name for name, _ in answer.named_events]
    assert names == ["response.created", "response.output_text.delta", "response.completed"]
    payloads = [payload for _, payload in answer.named_events]
    assert payloads[1] == {
        "type": "response.output_text.delta",
        "sequence_number": 1,
        "delta": "Hé",
    }
    assert {payloads[0]["response"]["id"], payloads[2]["response"]["id"]} == {
        payloads[0]["response"]["id"]
    }
    assert payloads[2]["response"]["model"] == "up"
    assert payloads[2]["response"]["usage"] == usage
    assert used(gateway) == ("response", 7, 9, 0)


async def test_a_response_that_the_length_ended_is_incomplete_whatever_its_server_calls_it(
    gateway: Gateway,
) -> None:
    usage = {"input_tokens": 7, "output_tokens": 9, "total_tokens": 16}
    body = {"id": "resp_x", "status": "incomplete", "usage": usage}
    server = Server(
        event(type="response.output_text.delta", sequence_number=0, delta="a")
        + event(type="response.completed", sequence_number=1, response=body)
    )
    answer = await served(gateway, server, "CreateResponse", {"input": "Hi", "stream": True})
    name, payload = answer.named_events[-1]
    assert name == payload["type"] == "response.incomplete"
    assert payload["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert payload["response"]["usage"] == usage
    assert used(gateway) == ("response", 7, 9, 0)


async def test_a_response_that_breaks_off_is_charged_by_its_deltas(gateway: Gateway) -> None:
    head = {"id": "resp_x", "status": "in_progress", "error": None, "usage": None}
    begun = event(type="response.created", sequence_number=0, response=head)
    delta = event(type="response.output_text.delta", delta="a")
    failure = {"code": "server_error", "message": "out of memory"}
    for end in (
        b"",
        event(type="error", message="out of memory"),
        event(type="response.failed", response=head | {"status": "failed", "error": failure}),
        b"data: {\n\n",
    ):
        gateway.recorder.events.clear()
        server = Server(begun + delta * 4 + end)
        answer = await served(gateway, server, "CreateResponse", {"input": "Hi", "stream": True})
        (name, payload), (last_name, last) = answer.named_events[-2:]
        assert name == "error"
        assert payload["error"]["type"] == "server_error"
        assert last_name == "response.failed"
        assert last["response"]["id"] == answer.named_events[0][1]["response"]["id"]
        assert last["response"]["error"]["code"] == "server_error"
        assert b"out of memory" not in answer.body
        (recorded,) = gateway.recorder.events
        assert recorded.status is UsageStatus.FAILED
        assert recorded.completion_tokens == 4
        assert recorded.prompt_tokens > 0


async def test_a_response_without_a_beginning_fails_with_an_error_alone(gateway: Gateway) -> None:
    for first in (event(type="response.output_text.delta", delta="a"), event(type="x.delta")):
        answer = await served(
            gateway, Server(first), "CreateResponse", {"input": "Hi", "stream": True}
        )
        assert [name for name, _ in answer.named_events][1:] == ["error"]


async def test_an_answer_whose_last_tokens_the_budget_had_not_is_told_whole(
    gateway: Gateway,
) -> None:
    gateway.leases.limit = gateway.leases.left = 400
    usage = {"input_tokens": 7, "output_tokens": 600, "total_tokens": 607}
    server = Server(
        event(type="response.output_text.delta", sequence_number=0, delta="many at once")
        + event(type="response.completed", sequence_number=1, response={"usage": usage})
    )
    answer = await served(gateway, server, "CreateResponse", {"input": "Hi", "stream": True})
    assert [name for name, _ in answer.named_events][1:] == ["response.completed"]
    assert used(gateway) == ("response", 7, 600, 0)


BODIES: dict[str, dict[str, Any]] = {
    "CreateCompletion": {"prompt": "Hi"},
    "CreateResponse": {"input": "Hi"},
    "CreateEmbedding": {"input": "Hi"},
    "CreateRerank": {"query": "q", "documents": ["d"]},
    "CreateScore": {"text_1": "a", "text_2": "b"},
    "Tokenize": {"prompt": "Hi"},
    "Detokenize": {"tokens": [1]},
}


NO_PATH: list[tuple[int, Any]] = [
    (404, {"detail": "Not Found"}),
    (404, {"error": {"message": "Not Found", "type": "Not Found", "param": None, "code": 404}}),
    (404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}),
    (404, {"error": {"message": "Invalid URL (POST /v1/x)", "param": None, "code": None}}),
    (404, b"404 page not found"),
    (404, b""),
    (405, {"detail": "Method Not Allowed"}),
    (501, {"error": {"message": "This server does not support it", "code": 501}}),
]
NO_MODEL: list[Any] = [
    # OpenAI, vLLM new and old, Ollama
    {"error": {"message": "Ask for another.", "param": None, "code": "model_not_found"}},
    {"error": {"message": "The model `inner` does not exist.", "param": "model", "code": 404}},
    {"object": "error", "message": "The model `inner` does not exist.", "code": 404},
    {"error": {"message": 'model "inner" not found, try pulling it first', "code": None}},
]


@pytest.mark.parametrize("method", BODIES)
@pytest.mark.parametrize(("status", "said"), NO_PATH)
async def test_a_server_that_lacks_an_operation_is_said_to(
    gateway: Gateway, method: str, status: int, said: Any
) -> None:
    answer = await served(gateway, Server(said, status), method, BODIES[method])
    assert answer.status == 400
    assert answer.error["param"] == "model"
    operation = gateway.recorder.events[0].operation if gateway.recorder.events else method.lower()
    feature = engines.Operation(operation).feature
    assert answer.error["message"] == f"The model 'up' does not support {feature}."


@pytest.mark.parametrize("method", [*BODIES, "CreateChatCompletion"])
@pytest.mark.parametrize("said", NO_MODEL)
async def test_a_server_that_is_registered_with_a_name_it_does_not_know_is_a_503(
    gateway: Gateway, method: str, said: Any
) -> None:
    body = BODIES.get(method, {"messages": [{"role": "user", "content": "Hi"}]})
    answer = await served(gateway, Server(said, 404), method, body)
    assert answer.status == 503
    assert answer.error["code"] == "service_unavailable"
    assert "name it is registered" in answer.error["message"]
    assert "'up'" in answer.error["message"]
    assert "inner" not in answer.error["message"]


@pytest.mark.parametrize(("status", "said"), NO_PATH[:-1])
async def test_a_chat_model_without_chats_was_registered_with_a_wrong_url(
    gateway: Gateway, status: int, said: Any
) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    answer = await served(gateway, Server(said, status), "CreateChatCompletion", body)
    assert answer.status == 503
    assert "registered URL" in answer.error["message"]


@pytest.mark.parametrize("method", BODIES)
async def test_a_server_s_own_refusal_reaches_the_client(gateway: Gateway, method: str) -> None:
    refusal = {"error": {"message": "too long", "param": "x", "code": 400}}
    answer = await served(gateway, Server(refusal, 400), method, BODIES[method])
    assert answer.status == 400
    assert "too long" in answer.error["message"]
    assert all(event.total_tokens == 0 for event in gateway.recorder.events)


@pytest.mark.parametrize("method", BODIES)
async def test_garbage_is_a_503_and_never_shown(gateway: Gateway, method: str) -> None:
    for garbage in (["x"], {}, {"choices": 5, "usage": "x"}, b"<html>"):
        answer = await served(gateway, Server(garbage), method, BODIES[method])
        assert answer.status == 503, garbage
        assert "html" not in answer.error["message"]


async def test_token_ids_are_drawn_exactly(gateway: Gateway) -> None:
    server = Server({"object": "list", "data": [], "usage": {"prompt_tokens": 4}})
    body = {"input": [[1, 2, 3], [4]]}
    await served(gateway, server, "CreateEmbedding", body, context_length=3)
    assert gateway.leases.settled == [(4, 4)]
    long = await served(gateway, server, "CreateEmbedding", body, context_length=2)
    assert long.error["code"] == "context_length_exceeded"
