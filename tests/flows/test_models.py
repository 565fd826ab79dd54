"""A model registered at run time serves within two seconds; disabled, it is gone within two."""

import asyncio
import time

import openai

HELLO = [{"role": "user", "content": "hello there tokens=7"}]


async def until(check, seconds: float) -> float:
    """Seconds until `check` held. Fails after `seconds`."""
    started = time.monotonic()
    while not await check():
        assert time.monotonic() - started < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.02)
    return time.monotonic() - started


async def test_a_model_comes_and_goes_without_a_restart(stack, oracle):
    stack.admin("model", "add", "team/second", "--engine", "openai", "--url", oracle.url)
    async with stack.openai() as client:

        async def serves() -> bool:
            try:
                answer = await client.chat.completions.create(model="team/second", messages=HELLO)
            except openai.NotFoundError:
                return False
            assert answer.model == "team/second"
            assert answer.usage.completion_tokens == 7
            return True

        async def gone() -> bool:
            return not await serves()

        await until(serves, 2)
        listed = [model.id async for model in client.models.list()]
        assert "team/second" in listed
        assert (await client.models.retrieve("team/second")).id == "team/second"
        chunks = [
            chunk.choices[0].delta.content
            async for chunk in await client.chat.completions.create(
                model="team/second", messages=HELLO, stream=True
            )
            if chunk.choices and chunk.choices[0].delta.content
        ]
        assert chunks == [f"w{i} " for i in range(7)]
        stack.admin("--yes", "model", "disable", "team/second")
        await until(gone, 2)
        stack.admin("model", "enable", "team/second")
        await until(serves, 2)
    assert not any("authorization" in {k.lower() for k in h} for h in oracle.headers), (
        "the client's key never reaches the model server"
    )


async def test_a_dead_server_is_a_503_that_invites_to_retry(stack):
    url = "http://127.0.0.1:9/v1"
    stack.admin("model", "add", "dead", "--engine", "openai", "--url", url)
    async with stack.openai() as client:

        async def answers_503() -> bool:
            try:
                await client.chat.completions.create(model="dead", messages=HELLO)
            except openai.NotFoundError:
                return False
            except openai.InternalServerError as error:
                assert error.status_code == 503
                assert error.code == "service_unavailable"
                assert "retry-after" in error.response.headers
                return True
            raise AssertionError("a dead server answered")

        await until(answers_503, 2)
