"""POST /v1/responses, on the mock."""

import json
from typing import Any

import pytest
from inference_support import FakeLeases, Gateway, a_gateway

from ias_inference.domain.errors import InvalidRequest
from ias_inference.domain.usage import UsageStatus
from ias_inference.grpc_api import openai_responses

ASK: dict[str, Any] = {"model": "mock-gpt", "input": "Hello there", "instructions": "Be kind."}
TOOL = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


async def test_a_response_holds_one_message_and_its_usage(gateway: Gateway) -> None:
    answer = await gateway.post("CreateResponse", ASK | {"temperature": 0.5, "store": True})
    assert answer.status == 200
    found = answer.json
    assert found["object"] == "response"
    assert found["status"] == "completed"
    assert found["id"].startswith("resp_")
    assert (found["instructions"], found["temperature"]) == ("Be kind.", 0.5)
    assert found["store"] is False
    (item,) = found["output"]
    assert item["role"] == "assistant"
    text = item["content"][0]["text"]
    event = await gateway.recorder.next_event()
    assert event.operation == "response"
    assert found["usage"]["output_tokens"] == event.completion_tokens == len(text.split())
    assert found["usage"]["input_tokens"] == event.prompt_tokens > 0
    assert found["usage"]["total_tokens"] == event.total_tokens


async def test_a_stream_has_named_events_that_add_up_to_the_response(gateway: Gateway) -> None:
    whole = (await gateway.post("CreateResponse", ASK)).json
    streamed = await gateway.post("CreateResponse", ASK | {"stream": True})
    assert streamed.content_type.startswith("text/event-stream")
    events = streamed.named_events
    assert all(name == payload["type"] for name, payload in events)
    assert [payload["sequence_number"] for _, payload in events] == list(range(len(events)))
    names = [name for name, _ in events]
    assert names[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert names[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    said = "".join(p["delta"] for name, p in events if name == "response.output_text.delta")
    last = events[-1][1]["response"]
    assert said == whole["output"][0]["content"][0]["text"]
    assert last["output"][0]["content"] == whole["output"][0]["content"]
    assert last["usage"] == whole["usage"]
    assert events[0][1]["response"]["status"] == "in_progress"
    assert gateway.recorder.events[-1].streamed


async def test_an_answer_that_met_its_bound_is_incomplete(gateway: Gateway) -> None:
    asked = ASK | {"max_output_tokens": 3}
    whole = (await gateway.post("CreateResponse", asked)).json
    assert whole["status"] == "incomplete"
    assert whole["incomplete_details"] == {"reason": "max_output_tokens"}
    assert whole["usage"]["output_tokens"] == whole["max_output_tokens"] == 3
    streamed = await gateway.post("CreateResponse", asked | {"stream": True})
    assert streamed.named_events[-1][0] == "response.incomplete"


async def test_items_are_read_as_a_chat_and_tools_are_called(gateway: Gateway) -> None:
    user = {"role": "user", "content": [{"type": "input_text", "text": "call get_weather"}]}
    asked = {"model": "mock-gpt", "input": [user], "tools": [TOOL]}
    (call,) = (await gateway.post("CreateResponse", asked)).json["output"]
    assert (call["type"], call["name"]) == ("function_call", "get_weather")
    assert set(json.loads(call["arguments"])) == {"city"}
    streamed = (await gateway.post("CreateResponse", asked | {"stream": True})).named_events
    pieces = [p["delta"] for n, p in streamed if n == "response.function_call_arguments.delta"]
    assert "".join(pieces) == call["arguments"]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
    told = {k: call[k] for k in ("type", "call_id", "name", "arguments")}
    after = await gateway.post("CreateResponse", asked | {"input": [user, told, result]})
    assert after.json["output"][0]["type"] == "message"


async def test_json_by_a_schema(gateway: Gateway) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    form = {"format": {"type": "json_schema", "name": "person", "schema": schema}}
    answer = (await gateway.post("CreateResponse", ASK | {"text": form})).json
    assert isinstance(json.loads(answer["output"][0]["content"][0]["text"])["age"], int)
    assert answer["text"] == form


async def test_a_failure_in_mid_stream_ends_as_openai_s_do(gateway: Gateway) -> None:
    gateway.mock("mock:?tokens=20&fail_after=5")
    events = (await gateway.post("CreateResponse", ASK | {"stream": True})).named_events
    assert [payload["sequence_number"] for _, payload in events] == list(range(len(events)))
    (name, error), (last_name, last) = events[-2:]
    assert name == error["type"] == "error"
    assert error["error"]["type"] == "server_error"
    assert error["code"] == "service_unavailable"
    assert last_name == last["type"] == "response.failed"
    response, begun = last["response"], events[0][1]["response"]
    assert response["error"] == {"code": "server_error", "message": error["message"]}
    changed = {"status": "failed", "error": response["error"]}
    assert response == begun | changed, "the response that was begun, and nothing else"
    assert (await gateway.recorder.next_event()).completion_tokens == 5


async def test_a_budget_that_runs_out_in_mid_stream_is_told_and_charged() -> None:
    async with a_gateway(FakeLeases(300)) as gateway:
        gateway.mock("mock:?tokens=500")
        answer = await gateway.post("CreateResponse", ASK | {"stream": True})
        events = answer.named_events
        (name, error), (last_name, last) = events[-2:]
        assert (name, last_name) == ("error", "response.failed")
        assert error["code"] == error["error"]["type"] == "insufficient_quota"
        assert last["response"]["status"] == "failed"
        assert last["response"]["error"]["code"] == "insufficient_quota"
        assert "organization" in last["response"]["error"]["message"]
        event = await gateway.recorder.next_event()
        assert event.status is UsageStatus.CUT_OFF
        assert event.total_tokens == 300
        deltas = [name for name, _ in events if name == "response.output_text.delta"]
        assert len(deltas) == event.completion_tokens


@pytest.mark.parametrize(
    ("asked", "budget"), [({"max_output_tokens": 9}, None), ({}, None), ({}, 300)]
)
async def test_whatever_bounds_a_whole_answer_it_is_incomplete_for_its_length(
    asked: dict[str, Any], budget: int | None
) -> None:
    async with a_gateway(FakeLeases(budget)) as gateway:
        gateway.mock("mock:?tokens=500", max_output_tokens=400 if budget else 20)
        answer = await gateway.post("CreateResponse", ASK | asked)
        assert answer.json["status"] == "incomplete"
        assert answer.json["incomplete_details"] == {"reason": "max_output_tokens"}
        if budget is None:
            streamed = await gateway.post("CreateResponse", ASK | asked | {"stream": True})
            name, last = streamed.named_events[-1]
            assert name == "response.incomplete"
            assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
            assert last["response"]["usage"] == answer.json["usage"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": ["Hi"]}, "input[0]"),
        ({"input": [{"content": "Hi"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            "input[0].content[0].type",
        ),
        (
            {
                "input": [
                    {
                        "role": "user",
                        "content": [{"type": "input_image", "image_url": "http://10.0.0.1/"}],
                    }
                ]
            },
            "input[0].content[0].image_url",
        ),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "mcp", "server_url": "http://10.0.0.1"}]}, "tools[0].type"),
        ({"tools": [TOOL | {"name": ""}]}, "tools[0].name"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "schema": {"a": "x" * 70_000}}}}, "text"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": []}, "messages"),
        ({"request_id": "x"}, "request_id"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        openai_responses.parse(json.dumps(ASK | changes).encode(), "application/json")
    assert caught.value.field == field


def test_nulls_are_as_good_as_absent() -> None:
    nothing = dict.fromkeys(openai_responses.Body.__struct_fields__)
    request = openai_responses.parse(json.dumps(nothing | ASK).encode(), "")
    assert request.max_tokens is None
