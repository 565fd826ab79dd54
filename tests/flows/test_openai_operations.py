"""The official OpenAI client against the whole system, beyond chats; usage to the token."""

import json

import httpx2 as httpx
import openai
import pytest

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
HELLO = [{"role": "user", "content": "Hello!"}]


async def post(stack, path: str, body: dict) -> httpx.Response:
    async with httpx.AsyncClient(base_url=stack.url, headers=stack.bearer) as client:
        return await client.post(path, json={"model": stack.model, **body})


async def test_completions_whole_and_streamed(stack):
    async with stack.openai() as client:
        ask = {"model": stack.model, "prompt": ["One", "Two"], "max_tokens": 30, "logprobs": 1}
        whole = await client.completions.create(**ask)
        stream = await client.completions.create(**ask, stream=True)
        texts = ["", ""]
        async for chunk in stream:
            for choice in chunk.choices:
                texts[choice.index] += choice.text
    assert texts == [choice.text for choice in whole.choices]
    assert whole.usage.completion_tokens == sum(len(text.split()) for text in texts)
    assert whole.choices[0].logprobs.tokens


async def test_embeddings_in_both_encodings(stack):
    async with stack.openai() as client:
        ask = {"model": stack.model, "input": ["a red stone", "taxes"], "dimensions": 64}
        packed = await client.embeddings.create(**ask)  # the client asks for base64 and decodes it
        plain = await client.embeddings.create(**ask, encoding_format="float")
    assert [item.embedding for item in packed.data] == [item.embedding for item in plain.data]
    assert {len(item.embedding) for item in plain.data} == {64}
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > 0


async def test_responses_whole_and_streamed(stack):
    async with stack.openai() as client:
        ask = {"model": stack.model, "input": "Hello!", "instructions": "Be kind."}
        whole = await client.responses.create(**ask)
        assert whole.status == "completed"
        assert whole.output_text
        assert whole.usage.output_tokens == len(whole.output_text.split())
        said, last = "", None
        async for event in await client.responses.create(**ask, stream=True):
            said += event.delta if event.type == "response.output_text.delta" else ""
            last = event
        assert said == whole.output_text
        assert last.type == "response.completed"
        assert last.response.output_text == said
        assert last.response.usage == whole.usage
        async with client.responses.stream(**ask) as stream:
            final = await stream.get_final_response()
        assert final.output_text == said
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(**ask, previous_response_id=whole.id)
    assert caught.value.param == "previous_response_id"


async def test_a_response_that_fails_in_mid_stream_raises(stack):
    async with stack.openai() as client:
        stream = await client.responses.create(
            model=stack.model, input="[mock tokens=20 fail_after=3]", stream=True
        )
        with pytest.raises(openai.APIError):
            async for _ in stream:
                pass


async def test_a_response_that_the_budget_ends_says_so_and_is_charged(stack):
    team = stack.new_team()
    stack.admin("budget", "set", "--org", team.org, "--tokens", "300")
    ask = {"model": stack.model, "input": "[mock tokens=500]", "stream": True}
    async with httpx.AsyncClient(base_url=stack.url) as http:
        bearer = {"authorization": f"Bearer {team.key}"}
        answer = await http.post("/v1/responses", json=ask, headers=bearer)
    assert answer.status_code == 200
    ends = [line for line in answer.text.splitlines() if line.startswith("event: ")][-3:]
    assert ends == ["event: response.output_text.delta", "event: error", "event: response.failed"]
    assert await stack.spent(team) == 300

    stack.admin("budget", "set", "--org", team.org, "--tokens", "600")

    async def read() -> list[str]:
        async with stack.openai(team.key) as client:
            stream = await client.responses.create(**ask)
            return [event.type async for event in stream]

    await stack.eventually(lambda: fails_in_mid_stream(read), AssertionError, seconds=5)
    assert await stack.spent(team) == 600


async def fails_in_mid_stream(read) -> None:
    """The official client raises, and tells the reason, once the stream has begun."""
    with pytest.raises(openai.APIError) as caught:
        await read()
    assert not isinstance(caught.value, openai.RateLimitError)
    assert caught.value.code == "insufficient_quota"


async def test_tools_are_called_and_json_fits_its_schema(stack):
    function = {"name": "get_weather", "parameters": SCHEMA}
    async with stack.openai() as client:
        answer = await client.chat.completions.create(
            model=stack.model,
            messages=HELLO,
            tools=[{"type": "function", "function": function}],
            tool_choice="required",
        )
        (call,) = answer.choices[0].message.tool_calls
        assert call.function.name == "get_weather"
        assert set(json.loads(call.function.arguments)) == {"city", "days"}
        form = {"name": "trip", "schema": SCHEMA, "strict": True}
        answer = await client.chat.completions.create(
            model=stack.model,
            messages=HELLO,
            response_format={"type": "json_schema", "json_schema": form},
            logprobs=True,
            top_logprobs=2,
        )
    assert isinstance(json.loads(answer.choices[0].message.content)["days"], int)
    assert all(len(one.top_logprobs) == 2 for one in answer.choices[0].logprobs.content)


async def test_rerank_score_and_tokens(stack):
    documents = ["taxes are due", "the river is deep"]
    ranked = await post(stack, "/v1/rerank", {"query": "a deep river", "documents": documents})
    assert [result["index"] for result in ranked.json()["results"]] == [1, 0]
    scored = await post(stack, "/v1/score", {"text_1": "a deep river", "text_2": documents})
    scores = [item["score"] for item in scored.json()["data"]]
    assert scores[1] > scores[0]
    tokens = await post(stack, "/v1/tokenize", {"prompt": documents[0]})
    text = await post(stack, "/v1/detokenize", {"tokens": tokens.json()["tokens"]})
    assert text.json() == {"prompt": documents[0]}
    for answer in (ranked, scored, tokens, text):
        assert answer.headers["x-request-id"]
        assert int(answer.headers["openai-processing-ms"]) >= 0


@pytest.fixture
async def model(stack, oracle) -> str:
    """A model served by the oracle."""
    name = f"operations-{oracle.url.split(':')[-1].split('/')[0]}"
    stack.admin("model", "add", name, "--engine", "openai", "--url", oracle.url)

    async def listed() -> None:
        async with stack.openai() as client:
            await client.models.retrieve(name)

    await stack.eventually(listed, openai.NotFoundError, seconds=2)
    return name


async def test_every_operation_is_charged_what_its_engine_counted(stack, oracle, model):
    team = stack.new_team()
    async with stack.openai(team.key) as client:
        await client.completions.create(model=model, prompt="one two tokens=9", max_tokens=50)
        stream = await client.completions.create(
            model=model, prompt=["one tokens=7", "two"], max_tokens=50, stream=True
        )
        assert len([chunk async for chunk in stream]) == 16
        vectors = await client.embeddings.create(model=model, input=["one two", "three"])
        assert [item.embedding for item in vectors.data] == [[7.0, 0.5], [5.0, 0.5]]
        whole = await client.responses.create(model=model, input="one two tokens=5")
        assert whole.output_text == "w0 w1 w2 w3 w4 "
        events = await client.responses.create(model=model, input="one tokens=6", stream=True)
        assert [event.type async for event in events][-1] == "response.completed"
        ranked = await client.post(
            "/rerank",
            body={"model": model, "query": "a b", "documents": ["c", "d e"]},
            cast_to=object,
        )
        assert len(ranked["results"]) == 2
        with pytest.raises(openai.BadRequestError) as caught:
            await client.post(
                "/score", body={"model": model, "text_1": "a", "text_2": "b"}, cast_to=object
            )
        assert model in str(caught.value)
    requests, prompt, completion = oracle.totals()
    assert (requests, prompt, completion) == (6, 3 + 3 + 3 + 3 + 2 + 7, 9 + 14 + 0 + 5 + 6 + 0)
    # The refused one reached an engine, so it is an event too, with no tokens.
    await stack.usage_becomes(team, (requests + 1, prompt, completion), seconds=10)
