"""Node, Go and C++ get everything that the contracts promise, from the whole system."""

import itertools
import math
import time

import pytest

pytestmark = pytest.mark.slow


def gaps(arrivals_ms: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(arrivals_ms)]


async def test_a_chat_is_answered(client):
    found = await client.run("chat", "[mock tokens=9]")
    assert found["code"] == "OK"
    assert len(found["content"].split()) == 9
    assert found["finish_reason"] == "FINISH_REASON_STOP"
    assert found["completion_tokens"] == 9
    assert found["prompt_tokens"] > 0


async def test_a_stream_arrives_piece_by_piece(client):
    found = await client.run("stream", "[mock tokens=10 pace_ms=40]")
    assert found["code"] == "OK"
    assert sum(1 for piece in found["pieces"] if piece) == 10
    assert sum(gap > 20 for gap in gaps(found["arrivals_ms"])) >= 8, (
        "each waited for the one before"
    )
    assert found["content"] == "".join(found["pieces"])
    assert len(found["content"].split()) == 10
    assert found["completion_tokens"] == 10


async def test_a_text_is_completed(client):
    found = await client.run("complete", "[mock tokens=9]")
    assert found["code"] == "OK"
    assert found["content"].strip()
    assert found["finish_reason"] == "FINISH_REASON_STOP"
    assert found["completion_tokens"] == 9


async def test_a_text_becomes_a_vector(client):
    found, other = [await client.run("embed", text) for text in ("green apples", "stone walls")]
    assert found["code"] == "OK"
    (vector,) = found["vectors"]
    assert len(vector) == 8
    assert math.isclose(math.hypot(*vector), 1, abs_tol=1e-3)
    assert other["vectors"] != found["vectors"]
    assert found["prompt_tokens"] > 0


async def test_what_the_client_reads_as_usage_is_what_is_charged(client, stack):
    team = stack.new_team()
    answers = [
        await client.run("chat", "[mock tokens=11] count", key=team.key),
        await client.run("stream", "[mock tokens=23] count", key=team.key),
    ]
    prompt = sum(answer["prompt_tokens"] for answer in answers)
    await stack.usage_becomes(team, (2, prompt, 11 + 23), seconds=15)


async def test_a_wrong_key_is_unauthenticated_with_a_reason(client):
    for command in ("chat", "stream"):
        found = await client.run(command, "hi", key="ias_" + "a" * 52)
        assert found["code"] == "UNAUTHENTICATED"
        assert (found["domain"], found["reason"]) == ("ias", "INVALID_CREDENTIAL")
        assert found["message"]


async def test_an_unknown_model_is_not_found_and_named(client):
    found = await client.run("chat", "hi", model="no/such-model")
    assert found["code"] == "NOT_FOUND"
    assert (found["domain"], found["reason"]) == ("ias", "MODEL_NOT_FOUND")
    assert found["metadata"]["model"] == "no/such-model"


async def test_a_deadline_ends_the_call_and_the_engine(client, stack):
    for command in ("chat", "stream"):
        began = time.perf_counter()
        slow = "[mock tokens=100 start_ms=20000]"
        found = await client.run(command, slow, deadline_ms=1000)
        assert found["code"] == "DEADLINE_EXCEEDED"
        assert time.perf_counter() - began < 10
        await stack.mock_idle(seconds=2)


async def test_a_deadline_in_mid_stream_keeps_what_came_before(client, stack):
    found = await client.run("stream", "[mock tokens=5000 pace_ms=50]", deadline_ms=1500)
    assert found["code"] == "DEADLINE_EXCEEDED"
    assert found["pieces"]
    await stack.mock_idle(seconds=2)


async def test_a_cancelled_stream_frees_the_engine_and_charges_what_was_made(client, stack):
    team = stack.new_team()
    before = stack.mock_counters()
    found = await client.run("leave", "[mock tokens=5000 pace_ms=20]", key=team.key)
    assert found["code"] == "CANCELLED"
    assert len(found["pieces"]) >= 3
    await stack.mock_idle(seconds=2)
    prompt, completion = (
        after - before for after, before in zip(stack.mock_counters(), before, strict=True)
    )
    assert 3 <= completion < 500
    await stack.usage_becomes(team, (1, prompt, completion), seconds=15)


async def test_a_used_up_budget_says_which_and_until_when(client, stack):
    team = stack.new_team()
    stack.admin("budget", "set", "--org", team.org, "--tokens", "1")
    for command in ("chat", "stream"):
        found = await client.run(command, "hi", key=team.key)
        assert found["code"] == "RESOURCE_EXHAUSTED"
        assert (found["domain"], found["reason"]) == ("ias", "INSUFFICIENT_QUOTA")
        assert found["metadata"]["scope"] == "organization"
        assert found["metadata"]["reset_time"].endswith("Z")
        (broken,) = found["violations"]
        assert broken["subject"] == "organization"
        assert broken["description"] == found["message"]
