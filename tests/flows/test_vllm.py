"""A real model, served by vLLM in the adapter, as the official client sees it through Envoy."""

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx2 as httpx
import openai
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ias_flow import Flow, Team
from ias_test_servers import TestServers
from ias_testing import free_address

from ias_dev import keys, model, up
from ias_dev.report import Report
from ias_dev.settings import HOST

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ROOT = Path(__file__).resolve().parents[2]
NAME = "tiny-chat"
TYPESCRIPT = ROOT / "tests" / "clients" / "node" / "openai_real.mjs"
SAID: list[Any] = [{"role": "user", "content": "Tell me about budgets."}]
GO_ON: Any = {"ignore_eos": True}
"""The model speaks nonsense, and might end with its first token."""


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """A stack of its own with the tiny model; about a minute."""
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    servers = TestServers.start()
    try:
        source = str(ROOT / ".cache" / "vllm" / NAME)
        flags = "--enable-auto-tool-choice --tool-call-parser hermes"
        found = up.up(servers.settings, Report(), source, flags)
        config = tmp_path_factory.mktemp("ias-admin") / "config.yaml"
        yield Flow(servers.settings, found.keys, config)
    finally:
        servers.stop()


@pytest.fixture
def team(vllm: Flow) -> Team:
    return vllm.new_team()


@pytest.fixture
async def client(vllm: Flow, team: Team) -> AsyncIterator[openai.AsyncOpenAI]:
    async with vllm.openai(team.key) as opened:
        yield opened


def metric(vllm: Flow, name: str) -> float:
    """One of vLLM's own metrics, from the adapter's port."""
    text = httpx.get(f"http://{HOST}:{vllm.settings.ports.vllm_metrics}/metrics").text
    found = re.search(rf"^{name}{{[^}}]*}} ([\d.e+]+)$", text, re.M)
    assert found is not None, f"no metric {name}"
    return float(found[1])


async def test_chat_both_ways_and_the_ledger_agrees(
    vllm: Flow, team: Team, client: openai.AsyncOpenAI
) -> None:
    asked: dict[str, Any] = {"model": NAME, "messages": SAID, "max_tokens": 24, "seed": 11}
    asked["extra_body"] = GO_ON
    whole = await client.chat.completions.create(**asked)
    assert whole.choices[0].message.content
    assert whole.usage is not None
    stream = await client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content, "the same seed gives the same answer"
    assert chunks[-1].usage == whole.usage
    await vllm.usage_becomes(
        team,
        (2, 2 * whole.usage.prompt_tokens, 2 * whole.usage.completion_tokens),
        seconds=10,
    )


async def test_logprobs_several_answers_and_stop_strings(
    vllm: Flow, team: Team, client: openai.AsyncOpenAI
) -> None:
    asked: dict[str, Any] = {"model": NAME, "messages": SAID, "max_tokens": 12, "seed": 5}
    asked["extra_body"] = GO_ON
    with_logprobs = await client.chat.completions.create(**asked, logprobs=True, top_logprobs=3)
    logprobs = with_logprobs.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert with_logprobs.usage is not None
    assert len(logprobs.content) == with_logprobs.usage.completion_tokens
    assert all(token.logprob <= 0 for token in logprobs.content)
    three = await client.chat.completions.create(**asked, n=3)
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in three.choices}) == 3
    first = with_logprobs.choices[0].message.content
    assert first is not None
    mark = first[2:4]
    stopped = await client.chat.completions.create(**asked, stop=[mark])
    assert stopped.choices[0].message.content == first[: first.index(mark)]
    assert stopped.choices[0].finish_reason == "stop"
    answers = (with_logprobs, three, stopped)
    prompt = sum(answer.usage.prompt_tokens for answer in answers if answer.usage)
    completion = sum(answer.usage.completion_tokens for answer in answers if answer.usage)
    await vllm.usage_becomes(team, (3, prompt, completion), seconds=10)


async def test_an_answer_in_a_json_schema(client: openai.AsyncOpenAI) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "ok": {"type": "boolean"},
            "colour": {"enum": ["red", "green"]},
        },
        "required": ["ok", "colour"],
        "additionalProperties": False,
    }
    answer = await client.chat.completions.create(
        model=NAME,
        messages=SAID,
        max_tokens=1500,
        seed=1,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": schema},
        },
    )
    assert answer.choices[0].finish_reason == "stop", answer
    said = json.loads(answer.choices[0].message.content or "")
    assert said.keys() == {"ok", "colour"}
    assert isinstance(said["ok"], bool)
    assert said["colour"] in ("red", "green")


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_is_called(client: openai.AsyncOpenAI, streamed: bool) -> None:
    tool: Any = {
        "type": "function",
        "function": {
            "name": "set_colour",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"colour": {"enum": ["red", "green"]}},
                "required": ["colour"],
                "additionalProperties": False,
            },
        },
    }
    asked: dict[str, Any] = {
        "model": NAME,
        "messages": SAID,
        "tools": [tool],
        "tool_choice": {"type": "function", "function": {"name": "set_colour"}},
        "max_tokens": 1500,
        "seed": 1,
    }
    if streamed:
        pieces = [
            call.function
            async for chunk in await client.chat.completions.create(**asked, stream=True)
            for choice in chunk.choices
            for call in choice.delta.tool_calls or ()
            if call.function is not None
        ]
        name = "".join(piece.name or "" for piece in pieces)
        arguments = "".join(piece.arguments or "" for piece in pieces)
    else:
        answer = await client.chat.completions.create(**asked)
        (call,) = answer.choices[0].message.tool_calls or ()
        assert call.type == "function"
        name, arguments = call.function.name, call.function.arguments
    assert name == "set_colour"
    assert json.loads(arguments)["colour"] in ("red", "green")


async def test_completions_responses_and_tokens(
    vllm: Flow, team: Team, client: openai.AsyncOpenAI
) -> None:
    asked: dict[str, Any] = {"model": NAME, "prompt": "Once upon a time", "max_tokens": 9}
    asked |= {"seed": 3, "extra_body": GO_ON}
    whole = await client.completions.create(**asked)
    pieces = [piece async for piece in await client.completions.create(**asked, stream=True)]
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text != ""
    two = await client.completions.create(**asked | {"prompt": ["One.", "And two."]}, logprobs=1)
    assert [choice.index for choice in two.choices] == [0, 1]
    response = await client.responses.create(model=NAME, input="Hello!", max_output_tokens=16)
    assert response.usage is not None
    events = [
        event
        async for event in await client.responses.create(
            model=NAME, input="Hello!", max_output_tokens=16, stream=True
        )
    ]
    assert events[0].type == "response.created"
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    assert last.type == f"response.{last.response.status}"
    assert last.response.usage is not None
    tokens = await client.post(
        "/tokenize", body={"model": NAME, "prompt": "Once upon a time"}, cast_to=httpx.Response
    )
    assert whole.usage is not None
    assert two.usage is not None
    assert tokens.json()["count"] == whole.usage.prompt_tokens
    prompt = 2 * whole.usage.prompt_tokens + two.usage.prompt_tokens
    completion = 2 * whole.usage.completion_tokens + two.usage.completion_tokens
    for usage in (response.usage, last.response.usage):
        prompt += usage.input_tokens
        completion += usage.output_tokens
    await vllm.usage_becomes(team, (5, prompt, completion), seconds=10)


@pytest.fixture(scope="module")
def embedding(vllm: Flow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A second adapter beside the stack's, with the tiny embedding model; half a minute."""
    name, address = "tiny-embed", free_address()
    served = model.Served(str(ROOT / ".cache" / "vllm" / name))
    program = model.program(vllm.settings, keys.load(vllm.settings.folder), served)
    folder = tmp_path_factory.mktemp(name)
    environment = {
        **os.environ,
        **program.environment,
        "IAS_INFERENCE_LISTEN": address,
        "IAS_INFERENCE_METRICS_LISTEN": "",
        "IAS_INFERENCE_SPOOL": str(folder / "spool.db"),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(program.command, env=environment, stdout=log, stderr=log)
    try:
        with grpc.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest()
            deadline = time.monotonic() + 120
            while (
                health.Check(request, timeout=60, wait_for_ready=True).status
                != health_pb2.HealthCheckResponse.SERVING
            ):
                assert process.poll() is None, (folder / "log").read_text()[-3000:]
                assert time.monotonic() < deadline
                time.sleep(0.2)
        vllm.admin("model", "add", name, "--engine", "vllm", "--backend", f"grpc://{address}")
        yield name
    finally:
        process.terminate()
        process.wait(60)


async def test_embeddings_as_floats_and_base64(
    vllm: Flow, embedding: str, team: Team, client: openai.AsyncOpenAI
) -> None:
    async def served() -> None:
        await client.embeddings.create(model=embedding, input="warm", encoding_format="float")

    await vllm.eventually(served, openai.APIStatusError, seconds=10)
    texts = ["budgets are hard", "usage is exact"]
    floats = await client.embeddings.create(model=embedding, input=texts, encoding_format="float")
    # The client asks for base64 by itself, and decodes it.
    decoded = await client.embeddings.create(model=embedding, input=texts)
    assert [len(item.embedding) for item in floats.data] == [128, 128]
    for one, other in zip(floats.data, decoded.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, rel=1e-5)
    with pytest.raises(openai.BadRequestError, match=r"tiny-embed.*chat completions"):
        await client.chat.completions.create(model=embedding, messages=SAID)
    warm = await client.embeddings.create(model=embedding, input="warm", encoding_format="float")
    prompt = 2 * floats.usage.prompt_tokens + 2 * warm.usage.prompt_tokens
    await vllm.usage_becomes(team, (4, prompt, 0), seconds=10)


async def test_typescripts_client_gets_the_same_and_the_ledger_agrees(
    vllm: Flow, embedding: str, team: Team
) -> None:
    process = await asyncio.create_subprocess_exec(
        "node", str(TYPESCRIPT), f"{vllm.url}/v1", NAME, embedding,
        env={**os.environ, "IAS_API_KEY": team.key}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    found = json.loads(out)

    def said(answer: str, choice: int = 0) -> str:
        return str(found[answer]["choices"][choice]["message"]["content"])

    assert said("chat") == found["chat_streamed"]["text"] != ""
    assert found["chat"]["usage"] == found["chat_streamed"]["usage"]
    text = found["completion"]["choices"][0]["text"]
    assert text == found["completion_streamed"] != ""
    logprobs = found["logprobs"]["choices"][0]["logprobs"]["content"]
    assert len(logprobs) == found["logprobs"]["usage"]["completion_tokens"] == 12
    assert {len(token["top_logprobs"]) for token in logprobs} == {3}
    assert len({said("three", choice) for choice in range(3)}) == 3
    assert found["stopped"]["choices"][0]["finish_reason"] == "stop"
    assert "e" not in said("stopped")
    called = found["tool"]["choices"][0]["message"]["tool_calls"][0]["function"]
    assert called["name"] == "set_colour"
    for answer in (said("schema"), called["arguments"]):
        values = json.loads(answer)
        assert values.keys() == {"ok", "colour"}
        assert isinstance(values["ok"], bool)
        assert values["colour"] in ("red", "green")
    for one, other in zip(found["floats"]["data"], found["decoded"]["data"], strict=True):
        assert len(one["embedding"]) == 128
        assert one["embedding"] == pytest.approx(other["embedding"], rel=1e-5)
    # The streamed completion is the twin of the other, which says what it took.
    usages = [answer["usage"] for answer in found.values() if "usage" in answer]
    usages.append(found["completion"]["usage"])
    prompt = sum(usage["prompt_tokens"] for usage in usages)
    completion = sum(usage.get("completion_tokens", 0) for usage in usages)
    await vllm.usage_becomes(team, (11, prompt, completion), seconds=10)


async def test_what_is_too_long_is_refused_with_the_exact_count(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model=NAME, messages=SAID, max_tokens=5000)
    assert caught.value.code == "context_length_exceeded"
    assert "2048" in caught.value.message


def test_the_check_of_the_model_compares_what_the_engine_serves(vllm: Flow) -> None:
    (right,) = vllm.admin_json("model", "check", NAME)
    assert right["served_models"] == [NAME]
    assert int(right["context_length"]) == 2048
    assert right["problems"] == []
    wrong = "wrongly-registered"
    vllm.admin("model", "add", wrong, "--engine", "vllm", "--backend", model.url(vllm.settings),
               "--upstream-model", "absent")  # fmt: skip
    try:
        (told,) = json.loads(vllm.admin("-o", "json", "model", "check", wrong, code=1))
        assert told["problems"] == [f"It does not serve 'absent', but {NAME}."]
        backend = ("--backend", model.url(vllm.settings), "--upstream-model", NAME)
        vllm.admin("model", "update", wrong, *backend, "--context-length", "4096")
        (told,) = json.loads(vllm.admin("-o", "json", "model", "check", wrong, code=1))
        assert told["problems"] == ["4096 tokens of context are registered, but it has 2048."]
    finally:
        vllm.admin("--yes", "model", "remove", wrong)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_leaves_frees_the_engine_and_pays(
    vllm: Flow, team: Team, streamed: bool
) -> None:
    body = {
        "model": NAME,
        "messages": SAID,
        "max_tokens": 1900,
        "ignore_eos": True,
        "stream": streamed,
    }
    headers = {"authorization": f"Bearer {team.key}"}
    url = f"{vllm.url}/v1/chat/completions"
    async with httpx.AsyncClient(timeout=30) as client:
        asking = asyncio.create_task(client.post(url, json=body, headers=headers))

        async def runs() -> bool:
            assert not asking.done(), asking.result().text
            return metric(vllm, "vllm:num_requests_running") >= 1

        await vllm.becomes(runs, seconds=10)
        asking.cancel()
        await asyncio.wait([asking])

        async def idle() -> bool:
            return metric(vllm, "vllm:num_requests_running") == 0

        await vllm.becomes(idle, seconds=2)

    charged = 0

    async def recorded() -> bool:
        nonlocal charged
        rows = await asyncio.to_thread(vllm.admin_json, "usage", "--org", team.org)
        charged = sum(int(row["completion_tokens"]) for row in rows)
        return charged > 0

    await vllm.becomes(recorded, seconds=10)
    assert charged < 1900


async def test_the_requests_never_passed_another_adapter(
    vllm: Flow, client: openai.AsyncOpenAI
) -> None:
    def calls(port: int) -> float:
        text = httpx.get(f"http://{HOST}:{port}/metrics").text
        method = "ias.inference.v1.OpenAIService/CreateChatCompletion"
        found = re.search(rf'ias_grpc_calls_total{{code="OK",method="{method}"}} ([\d.]+)', text)
        return float(found[1]) if found else 0.0

    ports = vllm.settings.ports
    before = calls(ports.vllm_metrics), calls(ports.metrics("inference"))
    await client.chat.completions.create(model=NAME, messages=SAID, max_tokens=1)
    assert calls(ports.vllm_metrics) == before[0] + 1
    assert calls(ports.metrics("inference")) == before[1]


def below(pid: int) -> dict[int, str]:
    """The processes that one has started, and that these have, by what they call themselves."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found[child] = Path(f"/proc/{child}/cmdline").read_text()
            found |= below(child)
    return found


async def test_on_a_cpu_the_model_runs_in_the_engine_cores_process(vllm: Flow) -> None:
    """vLLM's own worker beside it would spin for each step, and take a core from the requests."""
    names = below(vllm.supervisor.state(model.NAME).pid).values()
    assert [name for name in names if name.startswith("VLLM::Worker")] == []
    assert len([name for name in names if name.startswith("VLLM::EngineCore")]) == 1


async def test_a_dead_engine_is_started_anew(vllm: Flow, client: openai.AsyncOpenAI) -> None:
    """The engine core is killed: requests fail properly, and supervisor brings all back."""
    adapter = vllm.supervisor.state(model.NAME).pid
    (core,) = [pid for pid, name in below(adapter).items() if "EngineCore" in name]
    os.kill(core, signal.SIGKILL)

    async def fails() -> bool:
        try:
            await client.chat.completions.create(model=NAME, messages=SAID, max_tokens=1)
        except openai.APIStatusError as error:
            assert error.status_code == 503, error
            return True
        return False

    await vllm.becomes(fails, seconds=5)

    async def another() -> bool:
        return vllm.supervisor.state(model.NAME).pid not in (0, adapter)

    await vllm.becomes(another, seconds=30)
    await asyncio.to_thread(model.wait, vllm.settings, vllm.supervisor)

    async def answers() -> bool:
        try:
            await client.chat.completions.create(model=NAME, messages=SAID, max_tokens=1)
        except openai.InternalServerError:
            return False
        return True

    await vllm.becomes(answers, seconds=15)
