"""A model registered at run time serves within two seconds; disabled, it is gone within two."""

import asyncio
import time

import httpx2 as httpx
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


async def test_the_registry_is_managed_over_json_too(stack, oracle):
    headers = {"authorization": f"Bearer {stack.admin_token()}"}
    url = f"{stack.url}/api/v1/models"
    async with httpx.AsyncClient(headers=headers) as http:

        async def ask(method: str, path: str = "", status: int = 200, **body) -> dict:
            answer = await http.request(method, url + path, json=body or None)
            assert answer.status_code == status, answer.text
            return answer.json()

        backend = {"engine": "ENGINE_KIND_OPENAI", "url": oracle.url, "api_key": "s3cret"}
        made = await ask("POST", name="rest/model", backends=[backend])
        assert made["model"]["backends"][0]["api_key"] == "********"
        await ask("PATCH", "/rest/model", display_name="R", default_parameters={"top_k": 3})
        await ask("PATCH", "/rest/model?update_mask=aliases", aliases=["rest"], display_name="X")
        found = (await ask("GET", "/rest"))["model"]
        assert (found["name"], found["display_name"], found["aliases"]) == (
            "rest/model",
            "R",
            ["rest"],
        )
        assert found["default_parameters"] == {"top_k": 3}
        (checked,) = (await ask("POST", "/rest/model:check"))["backends"]
        assert checked["reachable"]
        wrong = await ask("PATCH", "/rest/model?update_mask=name", 400, display_name="R")
        assert wrong["details"][0]["reason"] == "INVALID_FIELD"
        await ask("DELETE", "/rest/model")
        await ask("GET", "/rest/model", 404)
        await ask("DELETE", "/rest/model", 404)


async def test_an_alias_is_called_and_told_of_by_its_name(stack, oracle):
    team = stack.new_team()
    stack.admin("model", "add", "aliased", "--url", oracle.url, "--alias", "team/nickname",
                "--default-max-output-tokens", "5")  # fmt: skip
    async with stack.openai(team.key) as client:

        async def serves() -> bool:
            try:
                answer = await client.chat.completions.create(
                    model="team/nickname",
                    messages=[{"role": "user", "content": "one two tokens=9"}],
                )
            except openai.NotFoundError:
                return False
            assert (answer.model, answer.usage.completion_tokens) == ("team/nickname", 5)
            return True

        await until(serves, 2)
        assert {"aliased", "team/nickname"} <= {one.id async for one in client.models.list()}
    await stack.usage_becomes(team, (1, 3, 5), seconds=15)
    (row,) = stack.admin_json("usage", "--org", team.org, "--by", "model")
    assert row["model"] == "aliased"
    stack.admin("--yes", "model", "remove", "aliased")
