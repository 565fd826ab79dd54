"""What is killed, stopped or cut off loses nothing and counts nothing twice.

Each test ends with the invariants of metering: events equal what the engine produced (A); spent plus
leased within the limits, at rest nothing leased (B); after `kill -9` of inference at most 64 tokens a
stream delivered but not charged (W).
"""

import asyncio
import contextlib

import openai
import pytest

pytestmark = pytest.mark.slow


def say(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


async def load(stack, team, requests: int, *, concurrency: int = 16) -> tuple[int, int, int]:
    """Sends plain requests, each retried until it is answered; sums what the clients were told."""
    told = [0, 0, 0]
    todo = iter(range(requests))

    async def worker(client) -> None:
        for index in todo:
            while True:
                try:
                    answer = await client.chat.completions.create(
                        model=stack.model, messages=say(f"[mock tokens={index % 20 + 1}]")
                    )
                except (openai.APIConnectionError, openai.InternalServerError):
                    await asyncio.sleep(0.1)
                    continue
                told[0] += 1
                told[1] += answer.usage.prompt_tokens
                told[2] += answer.usage.completion_tokens
                break

    async with stack.openai(team.key) as client:
        await asyncio.gather(*(worker(client) for _ in range(concurrency)))
    return tuple(told)


async def test_the_consumer_killed_again_and_again_loses_and_doubles_nothing(stack):
    team = stack.new_team()

    async def killer() -> None:
        for _ in range(4):
            await asyncio.sleep(0.7)
            await stack.kill("metering")

    told, _ = await asyncio.gather(load(stack, team, 2000), killer())
    await stack.usage_becomes(team, told, seconds=60)
    await stack.at_rest(team)


async def test_rabbitmq_down_for_a_minute_is_not_noticed(stack):
    team = stack.new_team()
    await stack.stop("rabbitmq")
    try:
        told = await load(stack, team, 200)
        assert told[0] == 200
        await asyncio.sleep(60)
        more = await load(stack, team, 50)
    finally:
        await stack.start("rabbitmq")
    await stack.usage_becomes(
        team, tuple(a + b for a, b in zip(told, more, strict=True)), seconds=60
    )
    await stack.at_rest(team)


async def test_inference_killed_with_events_in_its_spool_delivers_them_afterwards(stack):
    team = stack.new_team()
    await stack.stop("rabbitmq")
    try:
        told = await load(stack, team, 100)
        await stack.kill("inference")
    finally:
        await stack.start("rabbitmq")
    await stack.ready("inference")
    await stack.usage_becomes(team, told, seconds=60)
    await stack.at_rest(team)


async def test_a_stream_whose_server_was_killed_is_charged_to_within_64_tokens(stack):
    team = stack.new_team()
    delivered = 0
    async with stack.openai(team.key) as client:
        stream = await client.chat.completions.create(
            model=stack.model, messages=say("[mock tokens=100000 pace_ms=2]"), stream=True
        )
        with contextlib.suppress(openai.APIError):
            async for chunk in stream:
                delivered += bool(chunk.choices and chunk.choices[0].delta.content)
                if delivered == 300:
                    await stack.kill("inference")
    assert delivered >= 300
    await stack.ready("inference")

    async def charged() -> bool:
        rows = stack.admin_json("usage", "--org", team.org)
        return bool(rows) and rows[0]["requests"] == 1

    await stack.becomes(charged, seconds=30)
    (row,) = stack.admin_json("usage", "--org", team.org)
    assert 0 <= delivered - row["completion_tokens"] <= 64


async def test_without_redis_keys_are_checked_and_budgets_exact(stack):
    team = stack.new_team()
    await stack.stop("redis")
    try:
        told = await load(stack, team, 100)
        async with stack.openai("ias_" + "b" * 52) as client:
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
        await asyncio.to_thread(stack.admin, "--yes", "key", "revoke", team.key_id)

        async def refused() -> bool:
            async with stack.openai(team.key) as client:
                try:
                    await client.models.list()
                except openai.AuthenticationError:
                    return True
            return False

        await stack.becomes(refused, seconds=2)
    finally:
        await stack.start("redis")
    await stack.usage_becomes(team, told, seconds=10)


async def test_postgres_restarted_under_load_loses_nothing(stack):
    team = stack.new_team()

    async def restart() -> None:
        await asyncio.sleep(0.5)
        await stack.stop("postgres")
        await asyncio.sleep(3)
        await stack.start("postgres")

    told, _ = await asyncio.gather(load(stack, team, 400), restart())
    assert told[0] == 400
    await stack.usage_becomes(team, told, seconds=60)
    await stack.at_rest(team)
