"""Typed chat, as a gRPC client of any language sees it."""

import asyncio
import json

import grpc
import ias_testing
import pytest
from aiohttp import web
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from ias.inference.v1 import chat_pb2 as pb
from inference_support import FakeLeases, Gateway, a_caller, a_gateway, an_upstream

from ias_inference.domain.models import EngineKind
from ias_inference.domain.usage import UsageStatus

USER = pb.ChatMessage(role=pb.CHAT_ROLE_USER, content="Hello")
METADATA = ias_testing.signed(a_caller(), x_request_id="req-1")


def ask(text: str = "Hello", **parameters: object) -> pb.ChatRequest:
    message = pb.ChatMessage(role=pb.CHAT_ROLE_USER, content=text)
    given = pb.ChatParameters(**parameters)  # type: ignore[arg-type]
    return pb.ChatRequest(model="mock-gpt", messages=[message], parameters=given)


def ask_streamed(text: str = "Hello", **parameters: object) -> pb.StreamChatRequest:
    return pb.StreamChatRequest.FromString(ask(text, **parameters).SerializeToString())


async def test_an_answer_comes_in_one_message(gateway: Gateway) -> None:
    answer = await gateway.typed.Chat(ask(), metadata=METADATA)
    assert answer.message.role == pb.CHAT_ROLE_ASSISTANT
    assert answer.finish_reason == pb.FINISH_REASON_STOP
    event = await gateway.recorder.next_event()
    assert answer.usage.completion_tokens == event.completion_tokens
    assert answer.usage.total_tokens == event.total_tokens
    assert len(answer.message.content.split()) == event.completion_tokens
    assert answer.create_time.seconds > 0
    assert event.request_id == "req-1"


async def test_a_stream_says_the_same_and_ends_with_the_usage(gateway: Gateway) -> None:
    whole = await gateway.typed.Chat(ask(), metadata=METADATA)
    pieces = [piece async for piece in gateway.typed.StreamChat(ask_streamed(), metadata=METADATA)]
    assert "".join(piece.content for piece in pieces) == whole.message.content
    assert [piece.HasField("usage") for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].usage == whole.usage
    assert pieces[-2].finish_reason == pb.FINISH_REASON_STOP


async def test_parameters_reach_the_engine(gateway: Gateway) -> None:
    answer = await gateway.typed.Chat(ask(max_tokens=3), metadata=METADATA)
    assert answer.finish_reason == pb.FINISH_REASON_LENGTH
    asked = {}

    async def upstream(request: web.Request) -> web.StreamResponse:
        asked.update(await request.json())
        choice = {"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 1}
        return web.json_response({"id": "x", "created": 1, "choices": [choice], "usage": usage})

    async with an_upstream(upstream) as url:
        gateway.register("mock-gpt", url, EngineKind.OPENAI)
        request = ask(temperature=0.5, seed=7, stop=["x"], top_p=0.5)
        assert (await gateway.typed.Chat(request, metadata=METADATA)).message.content == "ok"
    assert asked | {"max_tokens": 0} == {
        "model": "mock-gpt",
        "messages": [{"role": "user", "content": "Hello"}],
        "temperature": 0.5,
        "top_p": 0.5,
        "seed": 7,
        "stop": ["x"],
        "max_tokens": 0,
    }
    assert json.dumps(asked)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ChatRequest(messages=[USER]), "model"),
        (pb.ChatRequest(model="other", messages=[USER]), "model"),
        (pb.ChatRequest(model="mock-gpt"), "messages"),
        (pb.ChatRequest(model="mock-gpt", messages=[pb.ChatMessage()]), "messages[0].role"),
        (ask(max_tokens=0), "parameters.max_tokens"),
        (ask(temperature=3), "parameters.temperature"),
        (ask(temperature=float("nan")), "parameters.temperature"),
        (ask(stop=["a"] * 5), "parameters.stop"),
    ],
)
async def test_a_bad_field_is_named(gateway: Gateway, request_: pb.ChatRequest, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.typed.Chat(request_, metadata=METADATA)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in str(rpc_status.from_call(caught.value))
    assert gateway.recorder.events == []


async def test_a_used_up_budget_is_resource_exhausted_with_its_scope() -> None:
    async with a_gateway(FakeLeases(0)) as gateway:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gateway.typed.Chat(ask(), metadata=METADATA)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = rpc_status.from_call(caught.value)
    quota = error_details_pb2.QuotaFailure()
    assert any(detail.Unpack(quota) for detail in status.details)
    assert quota.violations[0].subject == "organization"


async def test_a_stream_cut_off_ends_with_length_and_resource_exhausted() -> None:
    async with a_gateway(FakeLeases(300)) as gateway:
        gateway.mock("mock:?tokens=500")
        pieces: list[pb.StreamChatResponse] = []

        async def read() -> None:
            async for piece in gateway.typed.StreamChat(ask_streamed(), metadata=METADATA):
                pieces.append(piece)  # noqa: PERF401  # what came before the error matters

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert pieces[-1].finish_reason == pb.FINISH_REASON_LENGTH
        assert (await gateway.recorder.next_event()).status is UsageStatus.CUT_OFF


async def test_a_deadline_ends_the_engine_s_work(gateway: Gateway) -> None:
    gateway.mock("mock:?tokens=1000&pace_ms=20")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.typed.Chat(ask(), metadata=METADATA, timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    event = await gateway.recorder.next_event()
    assert event.status is UsageStatus.CANCELLED
    assert 0 < event.completion_tokens < 20


async def test_a_client_that_leaves_ends_the_engine_s_work(gateway: Gateway) -> None:
    gateway.mock("mock:?tokens=1000&pace_ms=20")
    call = gateway.typed.StreamChat(ask_streamed(), metadata=METADATA)
    await call.read()
    call.cancel()
    async with asyncio.timeout(2):
        event = await gateway.recorder.next_event()
    assert event.status is UsageStatus.CANCELLED


TOOL = pb.Tool(
    name="get_weather",
    description="Tells the weather.",
    parameters_json='{"type":"object","properties":{"city":{"type":"string"}}}',
)


async def test_a_tool_is_called_and_its_answer_given_back(gateway: Gateway) -> None:
    request = ask("Hello", tools=[TOOL], tool_choice="get_weather")
    answer = await gateway.typed.Chat(request, metadata=METADATA)
    assert answer.finish_reason == pb.FINISH_REASON_TOOL_CALLS
    (call,) = answer.message.tool_calls
    assert call.name == "get_weather"
    assert set(json.loads(call.arguments_json)) == {"city"}
    streamed = pb.StreamChatRequest.FromString(request.SerializeToString())
    pieces = [piece async for piece in gateway.typed.StreamChat(streamed, metadata=METADATA)]
    calls = [call for piece in pieces for call in piece.tool_calls]
    assert (calls[0].name, calls[1].name) == ("get_weather", "")
    assert "".join(call.arguments_json for call in calls) == call.arguments_json
    result = pb.ChatMessage(role=pb.CHAT_ROLE_TOOL, content="sunny", tool_call_id=call.id)
    request.messages.extend([answer.message, result])
    request.parameters.tool_choice = "auto"
    after = await gateway.typed.Chat(request, metadata=METADATA)
    assert after.finish_reason == pb.FINISH_REASON_STOP
    assert after.message.content


async def test_json_and_log_probabilities_can_be_asked_for(gateway: Gateway) -> None:
    form = '{"type":"json_object"}'
    request = ask(response_format_json=form, logprobs=True, top_logprobs=2)
    answer = await gateway.typed.Chat(request, metadata=METADATA)
    assert isinstance(json.loads(answer.message.content), dict)
    assert "".join(one.token for one in answer.logprobs) == answer.message.content
    assert all(len(one.top) == 2 for one in answer.logprobs)
    assert all(one.logprob <= 0 for one in answer.logprobs)


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"tools": [pb.Tool()]}, "parameters.tools[0].name"),
        ({"tools": [pb.Tool(name="a", parameters_json="{")]}, "tools[0].parameters_json"),
        ({"tools": [pb.Tool(name="a", parameters_json="5")]}, "tools[0].parameters_json"),
        ({"tools": [TOOL] * 129}, "parameters.tools"),
        ({"tools": [TOOL], "tool_choice": "other"}, "parameters.tool_choice"),
        ({"response_format_json": "x"}, "parameters.response_format_json"),
        ({"response_format_json": '{"type":"xml"}'}, "parameters.response_format_json"),
        ({"response_format_json": '{"type":"json_schema"}'}, "parameters.response_format_json"),
        ({"response_format_json": " " * 70_000 + "{}"}, "parameters.response_format_json"),
        ({"top_logprobs": 2}, "parameters.top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "parameters.top_logprobs"),
    ],
)
async def test_a_bad_parameter_is_named(
    gateway: Gateway, parameters: dict[str, object], field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.typed.Chat(ask(**parameters), metadata=METADATA)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in str(rpc_status.from_call(caught.value))
    assert gateway.recorder.events == []


async def test_a_tool_s_message_says_what_it_answers(gateway: Gateway) -> None:
    request = ask()
    request.messages.append(pb.ChatMessage(role=pb.CHAT_ROLE_TOOL, content="sunny"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.typed.Chat(request, metadata=METADATA)
    assert "messages[1].tool_call_id" in (caught.value.details() or "")
