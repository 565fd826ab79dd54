"""POST /v1/completions, on the mock: what a client sees, and what is charged."""

import json
from typing import Any

import pytest
from inference_support import FakeLeases, Gateway, a_gateway

from ias_inference.domain.errors import InvalidRequest
from ias_inference.domain.usage import UsageStatus
from ias_inference.grpc_api import openai_completions

ASK: dict[str, Any] = {"model": "mock-gpt", "prompt": "Once upon a time", "max_tokens": 20}
CREATE = "CreateCompletion"


def text_of(events: list[Any], index: int = 0) -> str:
    return "".join(
        choice["text"]
        for event in events
        for choice in event["choices"]
        if choice["index"] == index
    )


async def test_a_text_is_continued_with_its_usage(gateway: Gateway) -> None:
    answer = await gateway.post(CREATE, ASK)
    assert answer.status == 200
    found = answer.json
    assert found["object"] == "text_completion"
    assert found["id"].startswith("cmpl-")
    assert found["choices"][0]["index"] == 0
    event = await gateway.recorder.next_event()
    assert event.operation == "completion"
    assert event.status is UsageStatus.COMPLETED
    assert found["usage"]["prompt_tokens"] == event.prompt_tokens == -(-len(ASK["prompt"]) // 3)
    said = found["choices"][0]["text"].split()
    assert found["usage"]["completion_tokens"] == event.completion_tokens == len(said)


async def test_sixteen_tokens_are_the_default_as_at_openai(gateway: Gateway) -> None:
    gateway.mock("mock:?tokens=50")
    answer = await gateway.post(CREATE, {"model": "mock-gpt", "prompt": "Hi"})
    assert answer.json["usage"]["completion_tokens"] == 16
    assert answer.json["choices"][0]["finish_reason"] == "length"


async def test_a_stream_says_the_same_and_shows_its_usage_if_asked(gateway: Gateway) -> None:
    whole = (await gateway.post(CREATE, ASK)).json
    streamed = await gateway.post(CREATE, ASK | {"stream": True})
    assert streamed.content_type.startswith("text/event-stream")
    assert text_of(streamed.events) == whole["choices"][0]["text"]
    assert {event["object"] for event in streamed.events} == {"text_completion"}
    assert all("usage" not in event for event in streamed.events)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    asked = await gateway.post(CREATE, ASK | options)
    assert asked.events[-1]["choices"] == []
    assert asked.events[-1]["usage"] == whole["usage"]


async def test_several_prompts_and_answers_are_numbered_by_prompt(gateway: Gateway) -> None:
    asked = ASK | {"prompt": ["One", "Two, three"], "n": 2}
    whole = (await gateway.post(CREATE, asked)).json
    texts = [choice["text"] for choice in whole["choices"]]
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2, 3]
    assert len(set(texts)) == 4
    alone = (await gateway.post(CREATE, ASK | {"prompt": "Two, three", "n": 2})).json
    assert [choice["text"] for choice in alone["choices"]] == texts[2:]
    streamed = await gateway.post(CREATE, asked | {"stream": True})
    assert [text_of(streamed.events, index) for index in range(4)] == texts
    first, _, third = gateway.recorder.events
    assert first.prompt_tokens == 1 + 4
    assert first.completion_tokens == third.completion_tokens == sum(len(t.split()) for t in texts)


async def test_token_ids_are_a_prompt_like_any_other(gateway: Gateway) -> None:
    asked = {"model": "mock-gpt", "prompt": ASK["prompt"]}
    ids = (await gateway.post("Tokenize", asked)).json["tokens"]
    by_text = (await gateway.post(CREATE, ASK)).json
    by_ids = (await gateway.post(CREATE, ASK | {"prompt": ids})).json
    assert by_ids["choices"] == by_text["choices"]
    assert by_ids["usage"] == by_text["usage"]
    several = (await gateway.post(CREATE, ASK | {"prompt": [ids, ids]})).json
    assert len(several["choices"]) == 2
    wrong = await gateway.post(CREATE, ASK | {"prompt": [2**31 - 1]})
    assert wrong.status == 400
    assert wrong.error["param"] == "prompt"


async def test_echo_stop_and_logprobs(gateway: Gateway) -> None:
    plain = (await gateway.post(CREATE, ASK)).json["choices"][0]["text"]
    asked = ASK | {"echo": True, "logprobs": 2}
    for stream in (False, True):
        answer = await gateway.post(CREATE, asked | {"stream": stream})
        text = text_of(answer.events) if stream else answer.json["choices"][0]["text"]
        assert text == ASK["prompt"] + plain
    told = (await gateway.post(CREATE, asked)).json["choices"][0]["logprobs"]
    assert "".join(told["tokens"]) == plain
    assert len(told["token_logprobs"]) == len(told["top_logprobs"]) == len(told["tokens"])
    assert all(logprob <= 0 for logprob in told["token_logprobs"])
    assert all(len(top) == 2 for top in told["top_logprobs"])
    assert told["text_offset"][0] == len(ASK["prompt"])
    word = plain.split()[3]
    stopped = (await gateway.post(CREATE, ASK | {"stop": word})).json["choices"][0]
    assert stopped["finish_reason"] == "stop"
    assert word not in stopped["text"]


async def test_a_prompt_alone_can_be_scored(gateway: Gateway) -> None:
    answer = await gateway.post(CREATE, ASK | {"max_tokens": 0, "echo": True})
    assert answer.json["choices"][0]["text"] == ASK["prompt"]
    event = await gateway.recorder.next_event()
    assert event.prompt_tokens > 0
    assert event.completion_tokens == 0


async def test_a_stream_whose_budget_runs_out_ends_properly() -> None:
    async with a_gateway(FakeLeases(300)) as gateway:
        gateway.mock("mock:?tokens=500")
        body = ASK | {"stream": True, "max_tokens": 500}
        answer = await gateway.post(CREATE, body)
        assert answer.events[-1]["error"]["code"] == "insufficient_quota"
        assert answer.events[-2]["choices"][0]["finish_reason"] == "length"
        assert answer.events[-2]["object"] == "text_completion"
        event = await gateway.recorder.next_event()
        assert event.status is UsageStatus.CUT_OFF
        assert event.total_tokens == 300


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": {"text": "Hi"}}, "prompt"),
        ({"prompt": ["Hi", 5]}, "prompt"),
        ({"prompt": [5, [5]]}, "prompt"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": [2**31]}, "prompt[0]"),
        ({"prompt": ["Hi"] * 129}, "prompt"),
        ({"prompt": ["Hi"] * 65, "n": 2}, "prompt"),
        ({"n": 17}, "n"),
        ({"best_of": 3}, "best_of"),
        ({"best_of": 10**9}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 2**63}, "max_tokens"),
        ({"suffix": 5}, "suffix"),
        ({"echo": "yes"}, "echo"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": []}, "messages"),
        ({"prompt_logprobs": 1}, "prompt_logprobs"),
        ({"prompt_embeds": ""}, "prompt_embeds"),
        ({"priority": 1}, "priority"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        openai_completions.parse(json.dumps(ASK | changes).encode(), "application/json")
    assert caught.value.field == field


def test_best_of_as_good_as_none_is_accepted_and_not_passed_on() -> None:
    request = openai_completions.parse(json.dumps(ASK | {"best_of": 2, "n": 2}).encode(), "")
    assert "best_of" not in request.body
    assert request.answers == 2
