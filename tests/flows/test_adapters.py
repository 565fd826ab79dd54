"""A model with an adapter of its own is reached by Envoy directly, over HTTP and native gRPC."""

import asyncio
import json
from collections.abc import AsyncIterator

import grpc
import openai
import pytest
from ias.inference.v1 import chat_pb2, chat_pb2_grpc
from ias_flow import Adapter, Flow, Team

MODEL = "team/own-adapter"


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
async def adapter(stack: Flow, tmp_path_factory) -> AsyncIterator[Adapter]:
    async with stack.adapter(tmp_path_factory.mktemp("adapter")) as found:
        backend = f"grpc://{found.address}"
        stack.admin("model", "add", MODEL, "--engine", "vllm", "--backend", backend,
                    "--alias", "own", "--max-output-tokens", "100000")  # fmt: skip
        yield found
        stack.admin("--yes", "model", "remove", MODEL)


@pytest.fixture(scope="module")
async def team(stack: Flow) -> Team:
    return stack.new_team()


async def serves(stack: Flow, team: Team, model: str, seconds: float = 4) -> None:
    """Returns once the model answers."""
    async with stack.openai(team.key) as client:

        async def answers() -> bool:
            try:
                await client.chat.completions.create(model=model, messages=say("[mock tokens=1]"))
            except openai.NotFoundError:
                return False
            except openai.InternalServerError as error:
                # Where it is served is known a moment later than that it is.
                assert error.status_code == 503
                return False
            return True

        await stack.becomes(answers, seconds=seconds)


async def test_http_and_native_grpc_arrive_at_the_adapter_alone(
    stack: Flow, adapter: Adapter, team: Team
) -> None:
    await serves(stack, team, MODEL)
    own, others = adapter.calls(), stack.inference_calls()
    async with stack.openai(team.key) as client:
        for model in (MODEL, "own"):
            answer = await client.chat.completions.create(
                model=model, messages=say("[mock tokens=7]")
            )
            assert (answer.model, answer.usage.completion_tokens) == (model, 7)
        stream = await client.chat.completions.create(
            model=MODEL, messages=say("[mock tokens=5]"), stream=True
        )
        assert len([chunk async for chunk in stream if chunk.choices[0].delta.content]) == 5
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        message = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="[mock tokens=3]")
        typed = await chat_pb2_grpc.ChatServiceStub(channel).Chat(
            chat_pb2.ChatRequest(model=MODEL, messages=[message]),
            metadata=(("authorization", f"Bearer {team.key}"),),
        )
        assert typed.usage.completion_tokens == 3
    assert adapter.calls() == own + 4
    assert stack.inference_calls() == others, "no other process saw any of it"
    rows = await asyncio.to_thread(stack.admin_json, "usage", "--org", team.org, "--by", "model")
    assert {row["model"] for row in rows} <= {MODEL}, "also what was asked for by its alias"


async def test_what_adapters_serve_is_charged_exactly(stack: Flow, adapter: Adapter) -> None:
    team = stack.new_team()
    await serves(stack, team, MODEL)
    prompt = completion = 0
    async with stack.openai(team.key) as client:
        for tokens in (3, 5):
            answer = await client.chat.completions.create(
                model="own", messages=say(f"[mock tokens={tokens}]")
            )
            prompt += answer.usage.prompt_tokens
            completion += answer.usage.completion_tokens
        one = await client.chat.completions.create(model=MODEL, messages=say("[mock tokens=1]"))
    prompt += 2 * one.usage.prompt_tokens
    await stack.usage_becomes(team, (4, prompt, completion + 2), seconds=15)
    await stack.at_rest(team)


async def test_disabled_it_is_gone_within_two_seconds_and_a_running_stream_goes_on(
    stack: Flow, adapter: Adapter, team: Team
) -> None:
    await serves(stack, team, MODEL)
    async with stack.openai(team.key) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=say("[mock tokens=400 pace_ms=10]"), stream=True
        )
        got = [await anext(stream)]
        await asyncio.to_thread(stack.admin, "--yes", "model", "disable", MODEL)

        async def gone() -> bool:
            try:
                await client.chat.completions.create(model=MODEL, messages=say("[mock tokens=1]"))
            except openai.NotFoundError as error:
                assert error.code == "model_not_found"
                return True
            return False

        await stack.becomes(gone, seconds=2)
        assert MODEL not in [model.id async for model in client.models.list()]
        await asyncio.to_thread(stack.admin, "model", "enable", MODEL)
        await serves(stack, team, MODEL)
        got += [chunk async for chunk in stream]
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in got) == 400


async def test_the_check_of_a_model_asks_its_adapters(stack: Flow, adapter: Adapter) -> None:
    (one,) = stack.admin_json("model", "check", "own")
    assert one["reachable"]
    assert (one["served_models"], one["problems"]) == ([], []), "the mock takes any name"
    # The third is a process of IAS, but the adapter of no model.
    urls = [f"grpc://{adapter.address}", "grpc://127.0.0.1:9", f"grpc://{stack.inference}"]
    backends = [word for url in urls for word in ("--backend", url)]
    stack.admin("model", "update", "own", *backends)
    told = json.loads(stack.admin("-o", "json", "model", "check", "own", code=1))
    good, dead, none = (one["problems"] for one in told)
    assert good == []
    assert "can't be reached" in dead[0]
    assert none == [f"It does not serve {MODEL!r}, nor anything else."]
    stack.admin("model", "update", "own", *backends[:2])


async def test_a_model_is_hidden_from_organisations_that_may_not_call_it(
    stack: Flow, adapter: Adapter, team: Team
) -> None:
    other = stack.new_team()
    await serves(stack, other, MODEL)
    stack.admin("model", "update", MODEL, "--org", team.org)
    async with stack.openai(other.key) as client:

        async def hidden() -> bool:
            try:
                await client.chat.completions.create(model="own", messages=say("[mock tokens=1]"))
            except openai.NotFoundError as error:
                return error.code == "model_not_found"
            return False

        await stack.becomes(hidden, seconds=2)
        assert not {MODEL, "own"} & {model.id async for model in client.models.list()}
    await serves(stack, team, MODEL)
    stack.admin("model", "update", MODEL, "--all-orgs")
