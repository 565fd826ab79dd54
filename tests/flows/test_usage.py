"""Usage equals what the engine produced, to the token, however a request ends."""

import asyncio

import openai
import pytest


@pytest.fixture
async def model(stack, oracle) -> str:
    """A model served by the oracle."""
    name = f"oracle-{oracle.url.split(':')[-1].split('/')[0]}"
    stack.admin("model", "add", name, "--engine", "openai", "--url", oracle.url)

    async def listed() -> None:
        async with stack.openai() as client:
            await client.models.retrieve(name)

    await stack.eventually(listed, openai.NotFoundError, seconds=2)
    return name


def say(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


async def finish(client, model: str, text: str, *, stop_after: int | None = None) -> None:
    """Streams; leaves after `stop_after` chunks, or swallows the engine's failure."""
    stream = await client.chat.completions.create(model=model, messages=say(text), stream=True)
    try:
        count = 0
        async for _ in stream:
            count += 1
            if count == stop_after:
                break
    except openai.APIError:
        pass
    finally:
        await stream.close()


@pytest.mark.parametrize(
    ("end", "text", "stop_after"),
    [
        ("plain", "one two tokens=9", None),
        ("streamed", "one two tokens=9", None),
        ("client gone after the first chunk", "one tokens=400 pace_ms=50", 1),
        ("failed in mid-stream", "one two three tokens=30 die_after=11", None),
    ],
)
async def test_an_openai_engines_usage_is_exact(stack, oracle, model, end, text, stop_after):
    team = stack.new_team()
    async with stack.openai(team.key) as client:
        if end == "plain":
            await client.chat.completions.create(model=model, messages=say(text))
        else:
            await finish(client, model, text, stop_after=stop_after)
    async with asyncio.timeout(2):
        await oracle.quiet.wait()
    requests, prompt, completion = oracle.totals()
    assert requests == 1
    await stack.usage_becomes(team, (1, prompt, completion), seconds=2)
    assert await stack.spent(team) == prompt + completion


@pytest.mark.parametrize(
    ("text", "stop_after"),
    [
        ("[mock tokens=25]", None),
        ("[mock tokens=2000 pace_ms=20]", 1),
        ("[mock tokens=2000 pace_ms=20]", 10),
        ("[mock tokens=30 fail_after=7]", None),
        ("[mock tokens=30 fail_after=0]", None),
    ],
)
async def test_the_mock_engines_usage_is_exact(stack, text, stop_after):
    team = stack.new_team()
    before = stack.mock_counters()
    async with stack.openai(team.key) as client:
        await finish(client, stack.model, text, stop_after=stop_after)
    await stack.mock_idle()
    prompt, completion = (b - a for a, b in zip(before, stack.mock_counters(), strict=True))
    await stack.usage_becomes(team, (1, prompt, completion), seconds=2)


async def test_usage_is_shown_by_day_model_user_and_key(stack):
    team = stack.new_team()
    async with stack.openai(team.key) as client:
        answers = [
            await client.chat.completions.create(
                model=stack.model, messages=say(f"[mock tokens={n}]")
            )
            for n in (5, 6, 7)
        ]
    total = sum(answer.usage.total_tokens for answer in answers)
    await stack.usage_becomes(
        team,
        (3, sum(a.usage.prompt_tokens for a in answers), 5 + 6 + 7),
        seconds=2,
    )
    for dimension in ("day", "model", "user", "key"):
        (row,) = stack.admin_json("usage", "--org", team.org, "--by", dimension)
        assert row["requests"] == 3
        assert row["total_tokens"] == total
    (row,) = stack.admin_json("usage", "--org", team.org, "--by", "day,model,user,key")
    assert row["model"] == stack.model


async def test_a_thousand_mixed_requests_add_up(stack):
    team = stack.new_team()
    before = stack.mock_counters()

    async def one(client, index: int) -> None:
        text = f"[mock tokens={index % 50 + 1}] number {index}"
        if index % 3 == 0:
            await client.chat.completions.create(model=stack.model, messages=say(text))
        else:
            await finish(client, stack.model, text, stop_after=index % 7 or None)

    async with stack.openai(team.key) as client:
        for start in range(0, 1000, 50):
            await asyncio.gather(*(one(client, index) for index in range(start, start + 50)))
    await stack.mock_idle()
    prompt, completion = (b - a for a, b in zip(before, stack.mock_counters(), strict=True))
    await stack.usage_becomes(team, (1000, prompt, completion), seconds=5)
    await stack.at_rest(team)
