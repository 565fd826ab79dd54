"""What a model's registration means to a request: aliases, organisations, defaults, kind."""

import json
import uuid
from typing import Any

import grpc
import pytest
from aiohttp import web
from google.protobuf import empty_pb2
from ias.inference.v1 import catalog_pb2, chat_pb2, completions_pb2, openai_pb2
from ias_testing import signed
from inference_support import Gateway, HttpAnswer, a_caller, an_upstream

from ias_inference.domain.models import Backend, EngineKind, Model, ModelKind

HELLO = [{"role": "user", "content": "hello [mock tokens=3]"}]


def mock(name: str = "real", **facts: Any) -> Model:
    backends = (Backend(EngineKind.MOCK, "mock:?switches=1", name),)
    return Model(name=name, backends=backends, **facts)


async def listed(gateway: Gateway, **facts: Any) -> list[str]:
    call = gateway.openai.ListModels(empty_pb2.Empty(), metadata=signed(a_caller("", **facts)))
    return [model["id"] for model in (await HttpAnswer.of(call)).json["data"]]


async def retrieved(gateway: Gateway, name: str, **facts: Any) -> HttpAnswer:
    request = openai_pb2.RetrieveModelRequest(model=name)
    metadata = signed(a_caller(name, **facts))
    return await HttpAnswer.of(gateway.openai.RetrieveModel(request, metadata=metadata))


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_alias_is_answered_as_asked_and_charged_as_registered(
    gateway: Gateway, streamed: bool
) -> None:
    gateway.put(mock(aliases=("short", "org/other")))
    body = {"model": "short", "messages": HELLO, "stream": streamed}
    answer = await gateway.chat_completion(body, caller=a_caller("short"))
    shown = answer.events if streamed else [answer.json]
    assert {one["model"] for one in shown} == {"short"}
    (event,) = gateway.recorder.events
    assert event.model == "real"


async def test_typed_chat_takes_an_alias(gateway: Gateway) -> None:
    gateway.put(mock(aliases=("short",)))
    request = chat_pb2.ChatRequest(model="short", messages=[{"role": 2, "content": "hi"}])
    answer = await gateway.typed.Chat(request, metadata=signed(a_caller("short")))
    assert answer.model == "short"
    assert gateway.recorder.events[0].model == "real"


async def test_the_openai_engine_shows_the_alias_and_asks_for_its_own_name(
    gateway: Gateway,
) -> None:
    asked: list[str] = []

    async def upstream(request: web.Request) -> web.Response:
        asked.append((await request.json())["model"])
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        return web.json_response({"model": "x", "choices": [], "usage": usage})

    async with an_upstream(upstream) as url:
        backends = (Backend(EngineKind.OPENAI, url, "theirs"),)
        gateway.put(Model(name="real", backends=backends, aliases=("short",)))
        for name in ("short", "real"):
            body = {"model": name, "messages": HELLO}
            answer = await gateway.chat_completion(body, caller=a_caller(name))
            assert answer.json["model"] == name
    assert asked == ["theirs", "theirs"]
    assert [event.model for event in gateway.recorder.events] == ["real", "real"]


async def test_models_are_listed_with_their_aliases_as_far_as_the_key_may_use_them(
    gateway: Gateway,
) -> None:
    gateway.put(mock(aliases=("short",)))
    assert await listed(gateway) == ["mock-gpt", "real", "short"]
    assert await listed(gateway, allowed_models=("real",)) == ["real", "short"]
    assert await listed(gateway, allowed_models=("short",)) == ["short"]
    assert (await retrieved(gateway, "short")).json["id"] == "short"


async def test_for_other_organisations_a_model_does_not_exist(gateway: Gateway) -> None:
    ours = str(uuid.uuid4())
    gateway.put(mock(organization_ids=(ours,), aliases=("short",)))
    for name in ("real", "short"):
        body = {"model": name, "messages": HELLO}
        theirs = await gateway.chat_completion(body, caller=a_caller(name))
        unknown = await gateway.chat_completion(
            {"model": name[::-1], "messages": HELLO}, caller=a_caller(name[::-1])
        )
        assert theirs.status == 404
        assert theirs.error["code"] == "model_not_found"
        assert theirs.body == unknown.body.replace(name[::-1].encode(), name.encode())
        assert (await retrieved(gateway, name)).status == 404
        mine = await gateway.chat_completion(body, caller=a_caller(name, organization_id=ours))
        assert mine.status == 200
        assert (await retrieved(gateway, name, organization_id=ours)).status == 200
    assert await listed(gateway) == ["mock-gpt"]
    assert await listed(gateway, organization_id=ours) == ["mock-gpt", "real", "short"]


async def test_the_catalog_shows_names_and_aliases_to_those_who_may_call_them(
    gateway: Gateway,
) -> None:
    ours = str(uuid.uuid4())
    gateway.put(mock(organization_ids=(ours,), aliases=("a", "z")))

    async def names(**facts: Any) -> list[str]:
        metadata = signed(a_caller("", **facts))
        request = catalog_pb2.ListAvailableModelsRequest()
        answer = await gateway.catalog.ListAvailableModels(request, metadata=metadata)
        return [model.name for model in answer.models]

    async def code(name: str, **facts: Any) -> grpc.StatusCode:
        metadata = signed(a_caller(name, **facts))
        call = gateway.catalog.GetAvailableModel(
            catalog_pb2.GetAvailableModelRequest(model=name), metadata=metadata
        )
        return await call.code()

    assert await names() == ["mock-gpt"]
    assert await names(organization_id=ours) == ["a", "mock-gpt", "real", "z"]
    assert await names(organization_id=ours, allowed_models=("z",)) == ["z"]
    assert await code("a", organization_id=ours) is grpc.StatusCode.OK
    assert await code("a") is grpc.StatusCode.NOT_FOUND
    restricted = {"organization_id": ours, "allowed_models": ("z",)}
    assert await code("a", **restricted) is grpc.StatusCode.NOT_FOUND


async def test_default_parameters_lie_under_the_requests_own(gateway: Gateway) -> None:
    bodies: list[dict[str, Any]] = []

    async def upstream(request: web.Request) -> web.Response:
        bodies.append(json.loads(await request.read()))
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        return web.json_response({"id": "x", "created": 1, "choices": [], "usage": usage})

    defaults = {"temperature": 0.25, "top_k": 40, "stop": ["END"]}
    async with an_upstream(upstream) as url:
        backends = (Backend(EngineKind.OPENAI, url, "m"),)
        gateway.put(Model(name="m", backends=backends, default_parameters=defaults))
        for own in ({}, {"temperature": 1, "stop": "x"}, {"temperature": None, "top_k": 0}):
            body = {"model": "m", "messages": HELLO, **own}
            assert (await gateway.chat_completion(body, caller=a_caller("m"))).status == 200
        response = {"model": "m", "input": "Hi"}
        await gateway.post("CreateResponse", response, caller=a_caller("m"))
        asked = bodies.pop()
        assert asked["temperature"] == 0.25
        assert "top_k" not in asked
        assert "stop" not in asked
        request = chat_pb2.ChatRequest(model="m", messages=[{"role": 2, "content": "hi"}])
        request.parameters.temperature = 0
        await gateway.typed.Chat(request, metadata=signed(a_caller("m")))
    seen = [{name: body.get(name) for name in defaults} for body in bodies]
    assert seen == [
        defaults,
        {"temperature": 1, "top_k": 40, "stop": "x"},
        {"temperature": 0.25, "top_k": 0, "stop": ["END"]},
        {"temperature": 0, "top_k": 40, "stop": ["END"]},
    ]


async def test_the_default_length_is_not_the_longest(gateway: Gateway) -> None:
    gateway.put(mock(max_output_tokens=50, default_max_output_tokens=5))

    async def tokens(**own: int) -> int:
        body = {"model": "real", "messages": [{"role": "user", "content": "[mock tokens=99]"}]}
        answer = await gateway.chat_completion(body | own, caller=a_caller("real"))
        return int(answer.json["usage"]["completion_tokens"])

    assert await tokens() == 5
    assert await tokens(max_tokens=20) == 20
    assert await tokens(max_tokens=70) == 50


async def test_the_default_length_is_for_all_but_text_completions(gateway: Gateway) -> None:
    gateway.put(mock(max_output_tokens=50, default_max_output_tokens=30))
    caller, text = a_caller("real"), "[mock tokens=99]"
    chat = {"model": "real", "messages": [{"role": "user", "content": text}]}
    await gateway.chat_completion(chat, caller=caller)
    await gateway.post("CreateResponse", {"model": "real", "input": text}, caller=caller)
    typed = chat_pb2.ChatRequest(model="real", messages=[{"role": 2, "content": text}])
    await gateway.typed.Chat(typed, metadata=signed(caller))
    assert [event.completion_tokens for event in gateway.recorder.events] == [30, 30, 30]

    gateway.recorder.events.clear()
    completion = {"model": "real", "prompt": text}
    await gateway.post("CreateCompletion", completion, caller=caller)
    asked = completions_pb2.CompleteRequest(model="real", text=text)
    await gateway.completions.Complete(asked, metadata=signed(caller))
    await gateway.post("CreateCompletion", completion | {"max_tokens": 40}, caller=caller)
    assert [event.completion_tokens for event in gateway.recorder.events] == [16, 16, 40]


async def test_template_arguments_need_the_registrations_leave(gateway: Gateway) -> None:
    body = {"model": "real", "messages": HELLO, "chat_template_kwargs": {"thinking": False}}
    gateway.put(mock())
    refused = await gateway.chat_completion(body, caller=a_caller("real"))
    assert refused.status == 400
    assert refused.error["param"] == "chat_template_kwargs"
    gateway.put(mock(allow_chat_template_kwargs=True))
    assert (await gateway.chat_completion(body, caller=a_caller("real"))).status == 200
    huge = body | {"chat_template_kwargs": {"x": "y" * 20_000}}
    assert (await gateway.chat_completion(huge, caller=a_caller("real"))).status == 400


@pytest.mark.parametrize("kind", [ModelKind.EMBEDDING, ModelKind.RERANK, ModelKind.COMPLETION])
async def test_a_model_that_is_no_chat_model_says_so(gateway: Gateway, kind: ModelKind) -> None:
    gateway.put(mock(kind=kind))
    body = {"model": "real", "messages": HELLO}
    answer = await gateway.chat_completion(body, caller=a_caller("real"))
    assert answer.status == 400
    assert "'real'" in answer.error["message"]
    assert "chat" in answer.error["message"]
    assert not gateway.recorder.events


async def test_a_model_of_adapters_is_unavailable_where_it_is_not_served(
    gateway: Gateway,
) -> None:
    backends = (Backend(EngineKind.VLLM, "grpc://127.0.0.1:9", "v"),)
    gateway.put(Model(name="v", backends=backends))
    answer = await gateway.chat_completion({"model": "v", "messages": HELLO}, caller=a_caller("v"))
    assert answer.status == 503
    assert answer.headers["retry-after"]
