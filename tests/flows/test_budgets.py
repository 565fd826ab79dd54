"""A budget is hard: it is used up to the last request that fits, and not by a token more."""

import asyncio

import openai
import pytest

MESSAGES = [{"role": "user", "content": "[mock tokens=20] spend a little of the budget"}]


async def ask(stack, key: str, **more):
    async with stack.openai(key) as client:
        return await client.chat.completions.create(model=stack.model, messages=MESSAGES, **more)


@pytest.fixture
async def cost(stack) -> int:
    """Tokens of one request."""
    return (await ask(stack, stack.api_key)).usage.total_tokens


async def test_requests_pass_until_the_budget_is_used_up(stack, cost):
    team = stack.new_team()
    stack.admin("budget", "set", "--org", team.org, "--tokens", str(3 * cost + 1))
    for _ in range(3):
        await ask(stack, team.key)
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(stack, team.key)
    error = caught.value
    assert (error.code, error.type) == ("insufficient_quota", "insufficient_quota")
    assert "organization" in error.message
    assert "T00:00:00Z" in error.message, "it says when the budget resets"
    assert error.response.headers["x-should-retry"] == "false"
    assert await stack.spent(team) == 3 * cost

    stack.admin("budget", "set", "--org", team.org, "--tokens", str(10 * cost))
    await stack.eventually(lambda: ask(stack, team.key), openai.RateLimitError, seconds=2)


@pytest.mark.parametrize("shape", ["plain", "streamed"])
async def test_200_at_once_against_room_for_10_are_exactly_10(stack, cost, shape):
    team = stack.new_team()
    stack.admin("budget", "set", "--org", team.org, "--tokens", str(10 * cost + cost // 2))

    async def one() -> str:
        async with stack.openai(team.key) as client:
            try:
                answer = await client.chat.completions.create(
                    model=stack.model, messages=MESSAGES, stream=shape == "streamed"
                )
                if shape == "streamed":
                    async for _ in answer:
                        pass
            except openai.RateLimitError as error:
                return error.code
            return "answered"

    outcomes = await asyncio.gather(*(one() for _ in range(200)))
    assert outcomes.count("answered") == 10
    assert outcomes.count("insufficient_quota") == 190
    assert await stack.spent(team) == 10 * cost
    assert await stack.overspent() == []


@pytest.mark.parametrize("scope", ["user", "key"])
async def test_the_tightest_of_all_budgets_counts(stack, cost, scope):
    team = stack.new_team()
    stack.admin("budget", "set", "--org", team.org, "--tokens", str(100 * cost))
    subject = {"user": team.email, "key": team.key_id}[scope]
    stack.admin("budget", "set", f"--{scope}", subject, "--tokens", str(cost))
    await ask(stack, team.key)
    with pytest.raises(openai.RateLimitError):
        await ask(stack, team.key)


async def test_several_answers_and_no_bound_are_counted_whole(stack):
    team = stack.new_team()
    answer = await ask(stack, team.key, n=4)
    assert len(answer.choices) == 4
    assert answer.usage.completion_tokens == 4 * 20
    assert await stack.spent(team) == answer.usage.total_tokens


async def test_a_budget_of_nothing_refuses_the_first_request_of_a_new_organisation(stack):
    team = stack.new_team()
    stack.admin("budget", "set", "--org", team.org, "--tokens", "0")
    with pytest.raises(openai.RateLimitError):
        await ask(stack, team.key)
    assert await stack.spent(team) == 0
