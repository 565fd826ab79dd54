"""The OpenAI surface over a real channel, with the mock engine behind it."""

import asyncio
import json
from datetime import UTC, datetime

import ias_testing
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.empty_pb2 import Empty
from ias.inference.v1 import openai_pb2
from inference_support import FakeLeases, Gateway, HttpAnswer, a_caller, a_gateway, events_of

from ias_inference.domain.usage import UsageStatus
from ias_inference.grpc_api.openai import duration

HELLO = {"model": "mock-gpt", "messages": [{"role": "user", "content": "Hello there"}]}
STREAMED = HELLO | {"stream": True}


def saying(text: str, **more: object) -> dict[str, object]:
    return HELLO | {"messages": [{"role": "user", "content": text}]} | more


async def test_an_answer_comes_whole_with_its_usage(gateway: Gateway) -> None:
    answer = await gateway.chat_completion(HELLO)
    assert answer.status == 200
    assert answer.content_type == "application/json"
    found = answer.json
    assert found["object"] == "chat.completion"
    assert found["id"].startswith("chatcmpl-")
    assert found["model"] == "mock-gpt"
    assert found["choices"][0]["finish_reason"] == "stop"
    event = await gateway.recorder.next_event()
    assert event.status is UsageStatus.COMPLETED
    assert found["usage"]["prompt_tokens"] == event.prompt_tokens > 0
    assert found["usage"]["completion_tokens"] == event.completion_tokens
    assert len(answer.text.split()) == event.completion_tokens
    assert event.request_id == "req-1"
    assert event.duration_us > 0
    assert event.time_to_first_token_us > 0
    assert not event.streamed
    assert int(answer.headers["openai-processing-ms"]) >= 0


async def test_the_same_request_gets_the_same_answer_streamed_or_not(gateway: Gateway) -> None:
    whole = await gateway.chat_completion(HELLO)
    streamed = await gateway.chat_completion(STREAMED)
    assert streamed.content_type.startswith("text/event-stream")
    assert streamed.text == whole.text
    assert streamed.text != (await gateway.chat_completion(saying("Something else"))).text


async def test_each_chunk_of_a_stream_is_one_token(gateway: Gateway) -> None:
    answer = await gateway.chat_completion(STREAMED)
    chunks = [e for e in answer.events if e["choices"][0]["delta"].get("content")]
    event = await gateway.recorder.next_event()
    assert len(chunks) == event.completion_tokens
    assert event.streamed
    assert {chunk["id"] for chunk in answer.events} == {answer.events[0]["id"]}
    assert answer.events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert answer.events[-1]["choices"][0]["finish_reason"] == "stop"


async def test_tokens_that_are_ready_together_go_out_together(gateway: Gateway) -> None:
    answer = await gateway.chat_completion(saying("[mock tokens=160]", stream=True))
    assert len(answer.events) == 161
    assert answer.messages <= 12


async def test_a_stream_shows_its_usage_only_if_asked(gateway: Gateway) -> None:
    silent = await gateway.chat_completion(STREAMED)
    assert all("usage" not in event for event in silent.events)
    asked = await gateway.chat_completion(STREAMED | {"stream_options": {"include_usage": True}})
    assert all(event["usage"] is None for event in asked.events[:-1])
    last = asked.events[-1]
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == gateway.recorder.events[-1].total_tokens


async def test_chunks_arrive_one_by_one(gateway: Gateway) -> None:
    call = gateway.call(saying("[mock tokens=3 pace_ms=30]", stream=True))
    messages = [message async for message in call]
    assert len(messages) >= 4


async def test_several_answers_are_counted_together(gateway: Gateway) -> None:
    answer = await gateway.chat_completion(HELLO | {"n": 3})
    texts = [choice["message"]["content"] for choice in answer.json["choices"]]
    assert len(set(texts)) == 3
    event = await gateway.recorder.next_event()
    assert event.completion_tokens == sum(len(text.split()) for text in texts)


async def test_max_tokens_and_stop_strings_end_an_answer(gateway: Gateway) -> None:
    short = await gateway.chat_completion(HELLO | {"max_tokens": 2})
    assert short.json["choices"][0]["finish_reason"] == "length"
    assert short.json["usage"]["completion_tokens"] == 2
    words = (await gateway.chat_completion(HELLO)).text.split()
    stopped = await gateway.chat_completion(HELLO | {"stop": [words[5], "never said"]})
    assert stopped.json["choices"][0]["finish_reason"] == "stop"
    assert words[5] not in stopped.text


async def test_a_json_object_is_one(gateway: Gateway) -> None:
    answer = await gateway.chat_completion(HELLO | {"response_format": {"type": "json_object"}})
    assert isinstance(json.loads(answer.text), dict)


async def test_an_unknown_and_a_disabled_model_are_answered_alike(gateway: Gateway) -> None:
    ghost = HELLO | {"model": "ghost"}
    unknown = await gateway.chat_completion(ghost, caller=a_caller("ghost"))
    assert unknown.status == 404
    assert unknown.error["code"] == "model_not_found"
    gateway.mock(name="ghost", enabled=False)
    disabled = await gateway.chat_completion(ghost, caller=a_caller("ghost"))
    assert (disabled.status, disabled.body) == (unknown.status, unknown.body)
    assert gateway.recorder.events == []


async def test_a_body_for_another_model_than_was_authorised_is_refused(gateway: Gateway) -> None:
    answer = await gateway.chat_completion(HELLO, caller=a_caller("cheap"))
    assert answer.status == 400
    assert answer.error["param"] == "model"
    none = await gateway.chat_completion(HELLO, caller=a_caller(""))
    assert none.status == 400
    assert "application/json" in none.error["message"]
    assert gateway.leases.settled == []


async def test_a_used_up_budget_says_so_and_stops_retries() -> None:
    async with a_gateway(FakeLeases(0)) as gateway:
        answer = await gateway.chat_completion(HELLO)
        assert answer.status == 429
        assert answer.error["type"] == answer.error["code"] == "insufficient_quota"
        assert answer.headers["x-should-retry"] == "false"
        assert answer.headers["x-ratelimit-remaining-tokens"] == "0"
        assert gateway.recorder.events == []


async def test_a_stream_whose_budget_runs_out_ends_properly() -> None:
    async with a_gateway(FakeLeases(300)) as gateway:
        gateway.mock("mock:?tokens=500")
        answer = await gateway.chat_completion(STREAMED)
        assert answer.status == 200
        assert answer.events[-1]["error"]["code"] == "insufficient_quota"
        assert "organization" in answer.events[-1]["error"]["message"]
        assert answer.events[-2]["choices"][0]["finish_reason"] == "length"
        event = await gateway.recorder.next_event()
        assert event.status is UsageStatus.CUT_OFF
        assert event.total_tokens == 300
        assert gateway.leases.left == 0


async def test_a_stream_draws_more_as_it_grows() -> None:
    async with a_gateway(FakeLeases(2000)) as gateway:
        gateway.leases.plenty = True
        gateway.mock("mock:?tokens=1000")
        answer = await gateway.chat_completion(STREAMED)
        assert answer.events[-1]["choices"][0]["finish_reason"] == "stop"
        event = await gateway.recorder.next_event()
        assert event.completion_tokens == 1000
        assert gateway.leases.left == 2000 - event.total_tokens


async def test_two_hundred_at_once_never_overspend() -> None:
    async with a_gateway() as probe:
        one = await probe.chat_completion(HELLO)
        cost = one.json["usage"]["total_tokens"]
    async with a_gateway(FakeLeases(10 * cost)) as gateway:
        answers = await asyncio.gather(*(gateway.chat_completion(HELLO) for _ in range(200)))
        assert sorted(answer.status for answer in answers) == [200] * 10 + [429] * 190
        assert gateway.leases.left == 0
        assert sum(event.total_tokens for event in gateway.recorder.events) == 10 * cost


async def test_an_engine_that_fails_before_the_first_token_is_a_503(gateway: Gateway) -> None:
    for stream in (False, True):
        gateway.recorder.events.clear()
        gateway.mock("mock:?fail=1")
        answer = await gateway.chat_completion(HELLO | {"stream": stream})
        assert answer.status == 503
        assert answer.error["type"] == "server_error"
        assert answer.error["code"] == "service_unavailable"
        assert int(answer.headers["retry-after"]) >= 1
        event = await gateway.recorder.next_event()
        assert event.status is UsageStatus.FAILED
        assert event.total_tokens == 0


async def test_an_engine_that_fails_in_mid_stream_is_an_error_event(gateway: Gateway) -> None:
    answer = await gateway.chat_completion(saying("[mock tokens=20 fail_after=5]", stream=True))
    assert answer.status == 200
    assert answer.events[-1]["error"]["type"] == "server_error"
    said = [e for e in answer.events[:-1] if e["choices"][0]["delta"].get("content")]
    event = await gateway.recorder.next_event()
    assert event.status is UsageStatus.FAILED
    assert event.completion_tokens == len(said) == 5
    assert event.prompt_tokens > 0


async def test_a_client_that_leaves_is_charged_for_what_was_produced(gateway: Gateway) -> None:
    call = gateway.call(saying("[mock tokens=5000 pace_ms=5]", stream=True))
    received = await call.read()
    call.cancel()
    event = await gateway.recorder.next_event()
    assert event.status is UsageStatus.CANCELLED
    assert len(events_of(received.data)) <= event.completion_tokens < 20
    assert gateway.leases.open == []


async def test_a_client_that_never_reads_and_leaves_frees_the_engine(gateway: Gateway) -> None:
    gateway.mock("mock:?tokens=100000", max_output_tokens=100_000)
    call = gateway.call(STREAMED)
    await call.read()
    before = -1
    while before != (before := len(gateway.recorder.checkpoints)):  # until flow control stops it
        await asyncio.sleep(0.1)
    call.cancel()
    event = await gateway.recorder.next_event()
    assert event.status is UsageStatus.CANCELLED
    assert event.completion_tokens < 100_000
    assert gateway.leases.settled == [(gateway.leases.settled[0][0], event.total_tokens)]


async def test_a_full_spool_serves_nothing(gateway: Gateway) -> None:
    gateway.recorder.full = True
    answer = await gateway.chat_completion(HELLO)
    assert answer.status == 503
    assert "retry-after" in answer.headers
    assert gateway.leases.settled == []


async def test_the_event_is_recorded_before_the_end_is_sent(gateway: Gateway) -> None:
    for body in (HELLO, STREAMED):
        gateway.recorder.gate = asyncio.Event()
        call = gateway.call(body)
        received = b""
        async with asyncio.timeout(5):
            if body is STREAMED:
                while b'"finish_reason":"stop"' not in received:
                    received += (await call.read()).data
        reading = asyncio.ensure_future(call.read())
        done, _ = await asyncio.wait([reading], timeout=0.1)
        assert not done
        assert b"[DONE]" not in received
        gateway.recorder.gate.set()
        assert b"data" in (await reading).data or body is HELLO
        call.cancel()


async def test_what_nobody_foresaw_is_a_500_without_its_text(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret inner text")

    monkeypatch.setattr(gateway.leases, "draw", broken)
    answer = await gateway.chat_completion(HELLO)
    assert answer.status == 500
    assert answer.error["type"] == "server_error"
    assert "secret" not in answer.body.decode()


async def test_a_context_that_is_too_long_is_refused(gateway: Gateway) -> None:
    gateway.mock(context_length=40)
    answer = await gateway.chat_completion(HELLO | {"max_tokens": 39})
    assert answer.status == 400
    assert answer.error["code"] == "context_length_exceeded"
    long = await gateway.chat_completion(saying("word " * 100))
    assert long.error["code"] == "context_length_exceeded"
    assert (await gateway.chat_completion(HELLO)).status == 200


async def test_an_image_is_refused_by_the_mock(gateway: Gateway) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    answer = await gateway.chat_completion(
        HELLO | {"messages": [{"role": "user", "content": [part]}]}
    )
    assert answer.status == 400
    assert answer.error["param"] == "messages[0].content[0]"


async def test_a_prompt_of_ten_megabytes_is_served(gateway: Gateway) -> None:
    answer = await gateway.chat_completion(saying("word " * 2_000_000))
    assert answer.status == 200
    assert answer.json["usage"]["prompt_tokens"] >= 2_000_000


async def test_models_are_listed_and_retrieved_in_openai_s_shape(gateway: Gateway) -> None:
    gateway.mock(name="org/name")
    gateway.mock(name="off", enabled=False)
    headers = ias_testing.signed(a_caller(""))
    listed = await HttpAnswer.of(gateway.openai.ListModels(Empty(), metadata=headers))
    assert listed.json["object"] == "list"
    assert [model["id"] for model in listed.json["data"]] == ["mock-gpt", "org/name"]
    assert set(listed.json["data"][0]) == {"id", "object", "created", "owned_by"}
    ask = openai_pb2.RetrieveModelRequest
    one = await HttpAnswer.of(gateway.openai.RetrieveModel(ask(model="org/name"), metadata=headers))
    assert one.json["id"] == "org/name"
    assert one.json["created"] == int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())
    gone = await HttpAnswer.of(gateway.openai.RetrieveModel(ask(model="off"), metadata=headers))
    assert gone.status == 404
    assert gone.error["code"] == "model_not_found"


async def test_a_restricted_key_sees_its_own_models_alone(gateway: Gateway) -> None:
    gateway.mock(name="org/name")
    caller = a_caller("", allowed_models=("org/name", "not-registered"))
    headers = ias_testing.signed(caller)
    listed = await HttpAnswer.of(gateway.openai.ListModels(Empty(), metadata=headers))
    assert [model["id"] for model in listed.json["data"]] == ["org/name"]


@pytest.mark.parametrize("body", [HELLO, STREAMED])
async def test_through_the_transcoder_the_headers_travel_with_the_first_message(
    gateway: Gateway, body: dict[str, object]
) -> None:
    direct = await gateway.chat_completion(body)
    metadata = ias_testing.signed(a_caller(), x_envoy_original_path="/v1/chat/completions")
    request = HttpBody(content_type="application/json", data=json.dumps(body).encode())
    call = gateway.openai.CreateChatCompletion(request, metadata=metadata)
    parts = [part async for part in call]
    assert not [key for key, _ in await call.initial_metadata() if key in direct.headers]
    plain, *carried = parts[0].content_type.split(";;")
    assert plain == direct.content_type
    assert {header.split("=")[0] for header in carried} == set(direct.headers)
    assert all(";;" not in part.content_type for part in parts[1:])


def test_durations_are_written_as_openai_writes_them() -> None:
    assert [duration(s) for s in (7, 360, 90180)] == ["7s", "6m0s", "25h3m0s"]
