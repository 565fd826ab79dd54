"""The official OpenAI client against the running system: exactly what it expects of OpenAI."""

import itertools
import time

import httpx2 as httpx
import openai
import pytest

HELLO = [{"role": "user", "content": "Say hello to the newcomers."}]


async def test_a_chat_completes(stack):
    async with stack.openai() as client:
        answer = await client.chat.completions.create(model=stack.model, messages=HELLO)
    assert answer.object == "chat.completion"
    assert answer.model == stack.model
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0


async def test_a_streams_chunks_arrive_one_by_one_with_usage_when_asked(stack):
    steered = [{"role": "user", "content": "[mock tokens=12 pace_ms=40]"}]
    async with stack.openai() as client:
        arrivals, text, usages = [], "", []
        stream = await client.chat.completions.create(
            model=stack.model, messages=steered, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            arrivals.append(time.perf_counter())
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            usages += [chunk.usage] if chunk.usage else []
    gaps = [b - a for a, b in itertools.pairwise(arrivals)]
    assert sum(gap > 0.02 for gap in gaps) >= 10, "each waited for the one before"
    assert [u.completion_tokens for u in usages] == [12]
    assert text


async def test_usage_stays_hidden_from_a_stream_that_did_not_ask(stack):
    async with stack.openai() as client:
        stream = await client.chat.completions.create(
            model=stack.model, messages=HELLO, stream=True
        )
        chunks = [chunk async for chunk in stream]
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


async def test_models_are_listed_and_shown(stack):
    async with stack.openai() as client:
        names = [model.id async for model in client.models.list()]
        assert stack.model in names
        model = await client.models.retrieve(stack.model)
    assert (model.id, model.object) == (stack.model, "model")


@pytest.mark.parametrize("key", ["sk-nonsense", "ias_" + "a" * 52, "ias_ü"])
async def test_a_wrong_key_is_an_authentication_error(stack, key):
    if not key.isascii():
        header = {"authorization": f"Bearer {key}".encode()}
        async with httpx.AsyncClient(base_url=stack.url) as client:
            answer = await client.get("/v1/models", headers=header)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        return
    async with stack.openai(key) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(model=stack.model, messages=HELLO)
    assert caught.value.code == "invalid_api_key"
    assert key[12:-6] not in str(caught.value) or len(key) < 20, "the key is not echoed"


async def test_an_unknown_model_is_not_found(stack):
    async with stack.openai() as client:
        for call in (
            client.chat.completions.create(model="no/such-model", messages=HELLO),
            client.chat.completions.create(model="no-such", messages=HELLO, stream=True),
            client.models.retrieve("no/such-model"),
        ):
            with pytest.raises(openai.NotFoundError) as caught:
                await call
            assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2**63}, "max_tokens"),
        ({"n": 10**9}, "n"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages"),
        ({"priority": 1}, "priority"),
        ({"cache_salt": "x"}, "cache_salt"),
        ({"stream": "yes"}, "stream"),
    ],
)
async def test_a_malformed_body_is_a_bad_request_that_names_the_field(stack, change, param):
    body = {"model": stack.model, "messages": HELLO, **change}
    async with stack.openai() as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.post("/chat/completions", body=body, cast_to=object)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.param.startswith(param)
    assert caught.value.message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"model": "mock-gpt", "messages": [',
        b'{"model": "mock-gpt", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model": "mock-gpt", "messages": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"model": "mock-gpt", "temperature": 1e400, "messages": [{"role":"user","content":"x"}]}',
        b'{"model": "mock-gpt", "temperature": NaN, "messages": [{"role":"user","content":"x"}]}',
        b'{"model": "other", "model": "mock-gpt", "messages": [{"role":"user","content":"x"}], "x":1}',
        b"[]",
        b"null",
    ],
)
async def test_malformed_json_is_refused_and_the_system_lives(stack, content):
    async with httpx.AsyncClient(base_url=stack.url, headers=stack.bearer) as client:
        answer = await client.post(
            "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
        )
        assert answer.status_code in (400, 404), answer.text
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert (await client.get("/v1/models")).status_code == 200


async def test_every_answer_has_a_request_id_and_the_budget_headers(stack):
    async with httpx.AsyncClient(base_url=stack.url, headers=stack.bearer) as client:
        answer = await client.post(
            "/v1/chat/completions", json={"model": stack.model, "messages": HELLO}
        )
        assert answer.headers["x-request-id"]
        assert int(answer.headers["openai-processing-ms"]) >= 0
        assert int(answer.headers["x-ratelimit-limit-tokens"]) > 0
        assert not [name for name in answer.headers if name.startswith(("grpc-", "x-ias-"))]
        missing = await client.get("/v1/nothing-here")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "unknown_url"
    assert missing.headers["x-request-id"]


async def test_a_failure_in_mid_stream_is_an_error_event_then_done(stack):
    body = {
        "model": stack.model,
        "messages": [{"role": "user", "content": "[mock tokens=20 fail_after=3]"}],
        "stream": True,
    }
    async with httpx.AsyncClient(base_url=stack.url, headers=stack.bearer) as client:
        answer = await client.post("/v1/chat/completions", json=body)
    events = [line[6:] for line in answer.text.split("\n") if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert '"error"' in events[-2]
    async with stack.openai() as client:
        stream = await client.chat.completions.create(**body)
        with pytest.raises(openai.APIError):
            async for _ in stream:
                pass
