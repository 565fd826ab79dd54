"""Two servers behind one model, through the whole system: one is killed, stalls, or dies.

What had not begun never fails; what is charged is what the clients got, to the token.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator

import ias_oracle
import openai
import pytest
from ias_flow import Flow, Team
from ias_oracle import Oracle
from ias_testing import free_address

pytestmark = pytest.mark.slow


class Told:
    """What clients were told, over all requests."""

    def __init__(self) -> None:
        self.requests = self.prompt = self.completion = 0
        self.broken = 0
        """Streams that broke off after they had begun."""

    def add(self, prompt: int, completion: int) -> None:
        self.requests += 1
        self.prompt += prompt
        self.completion += completion

    @property
    def totals(self) -> tuple[int, int, int]:
        return self.requests, self.prompt, self.completion


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Oracle, Oracle]]:
    one, two = [await ias_oracle.started(int(free_address().rpartition(":")[2])) for _ in range(2)]
    yield one, two
    await one.close()
    await two.close()


@pytest.fixture
async def model(stack: Flow, pair: tuple[Oracle, Oracle]) -> AsyncIterator[str]:
    name = f"pair-{uuid.uuid4().hex[:8]}"
    backends = [part for one in pair for part in ("--backend", one.url)]
    stack.admin("model", "add", name, *backends, "--max-output-tokens", "1000")

    async with stack.openai() as client:

        async def known() -> bool:
            return name in [one.id async for one in client.models.list()]

        await stack.becomes(known, seconds=2)
    yield name
    stack.admin("--yes", "model", "remove", name)


async def ask(client: openai.AsyncOpenAI, model: str, told: Told, text: str) -> None:
    """A plain request, which may not fail."""
    answer = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}]
    )
    told.add(answer.usage.prompt_tokens, answer.usage.completion_tokens)


async def stream(client: openai.AsyncOpenAI, model: str, told: Told, text: str) -> None:
    """A streamed request, which may fail only once it has begun, and then with a proper error."""
    got = 0
    chunks = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], stream=True
    )
    try:
        async for chunk in chunks:
            got += bool(chunk.choices and chunk.choices[0].delta.content)
    except openai.APIError as error:
        assert got, f"failed before it had begun: {error}"
        assert error.code == "service_unavailable"
        told.broken += 1
    told.add(len(text.split()), got)


async def load(stack: Flow, team: Team, model: str, told: Told, until: asyncio.Event) -> None:
    """Plain and streamed requests, eight at a time, until told to end."""

    async def worker(number: int) -> None:
        while not until.is_set():
            if number % 2:
                await ask(client, model, told, f"a b tokens={number + 3} take_ms=20")
            else:
                await stream(client, model, told, f"c tokens={number + 3} pace_ms=10")

    async with stack.openai(team.key) as client:
        await asyncio.gather(*(worker(number) for number in range(8)))


async def gets(stack: Flow, oracle: Oracle, more: int) -> None:
    """Returns once a server has got so many requests more."""
    enough = len(oracle.requests) + more

    async def has() -> bool:
        return len(oracle.requests) >= enough

    await stack.becomes(has, seconds=15)


async def test_one_is_killed_under_load_and_comes_back(
    stack: Flow, pair: tuple[Oracle, Oracle], model: str
) -> None:
    team, told, end = stack.new_team(), Told(), asyncio.Event()
    one, two = pair
    loading = asyncio.create_task(load(stack, team, model, told, end))

    async def both_serve() -> bool:
        return bool(one.requests and two.requests)

    async def ejected() -> bool:
        return not await asyncio.to_thread(stack.is_healthy, two.url)

    await stack.becomes(both_serve, seconds=10)
    for _ in range(2):
        await two.kill()
        await stack.becomes(ejected, seconds=8)
        await gets(stack, one, 20)
        await two.serve()
        await gets(stack, two, 5)
    end.set()
    await loading  # raises what any request raised
    assert told.requests > 50
    await stack.usage_becomes(team, told.totals, seconds=30)
    await stack.at_rest(team)


async def test_one_that_stalls_before_its_first_byte_is_left_for_the_other(
    stack: Flow, pair: tuple[Oracle, Oracle], model: str
) -> None:
    team, told = stack.new_team(), Told()
    one, two = pair
    two.silent = True
    async with stack.openai(team.key) as client:
        # All at once: each stalled one costs the time that a backend may be silent.
        await asyncio.gather(*(stream(client, model, told, "x tokens=5") for _ in range(8)))
        assert two.stalled
        assert len(one.requests) == 8
        stalled = two.stalled
        for _ in range(10):
            await stream(client, model, told, "x tokens=5")
        assert two.stalled == stalled, "it is ejected"
    assert told.totals == (18, 36, 90)
    assert not told.broken
    await stack.usage_becomes(team, told.totals, seconds=15)
    await stack.at_rest(team)


async def test_one_that_dies_in_mid_stream_ends_it_with_a_proper_error(
    stack: Flow, pair: tuple[Oracle, Oracle], model: str
) -> None:
    team, told = stack.new_team(), Told()
    async with stack.openai(team.key) as client:
        for _ in range(4):
            await stream(client, model, told, "x tokens=20 die_after=7")
    assert told.broken == 4
    assert told.completion == 28
    produced = [sum(each) for each in zip(*(one.totals() for one in pair), strict=True)]
    assert told.totals == tuple(produced), "as the servers themselves counted"
    await stack.usage_becomes(team, told.totals, seconds=15)
    await stack.at_rest(team)
