"""A thousand streams at once, on a machine of two cores: none broken, none forgotten."""

import httpx2 as httpx
import ias_streams
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
COUNT = 1000
PROGRAMS = ("envoy", "identity", "inference", "metering")
AT_ONCE = 1e9
"""Streams a second: all begin in the same instant."""


def steered(tokens: int, pace_ms: int, start_ms: int = 0) -> str:
    return f"[mock tokens={tokens} pace_ms={pace_ms} start_ms={start_ms}]"


def asked(stack, text: str) -> dict[str, object]:
    return {"model": stack.model, "messages": [{"role": "user", "content": text}]}


def memory(stack) -> dict[str, float]:
    """MiB that each program holds."""
    return {name: ias_streams.resident_mib([stack.supervisor.state(name).pid]) for name in PROGRAMS}


def in_use_by_envoy(stack) -> float:
    """MiB that Envoy has allocated and not freed, by its own count."""
    url = f"{stack.env['IAS_ENVOY_ADMIN']}/memory"
    return int(httpx.get(url).json()["allocated"]) / 1024**2


async def crowd(stack, surface: str, key: str, text: str, per_second: float) -> ias_streams.Crowd:
    if surface == "http":
        body = asked(stack, text)
        return await ias_streams.over_http(stack.host, stack.port, key, body, COUNT, per_second)
    return await ias_streams.over_grpc(stack.grpc, key, stack.model, text, COUNT, per_second)


@pytest.mark.parametrize("surface", ["http", "grpc"])
async def test_a_thousand_streams_at_once_are_whole_and_charged_to_the_token(
    stack, surface, record_property
):
    team = stack.new_team()
    tokens, start_ms = 30, 500
    text = steered(tokens, pace_ms=450, start_ms=start_ms)
    before = stack.mock_counters()
    seen = await crowd(stack, surface, team.key, text, per_second=125)
    assert seen.broken == []
    assert seen.most_at_once == COUNT, "the first still ran when the last began"
    assert {stream.tokens for stream in seen.streams} == {tokens}
    await stack.mock_idle()
    prompt, completion = (
        after - before for after, before in zip(stack.mock_counters(), before, strict=True)
    )
    assert completion == COUNT * tokens
    await stack.usage_becomes(team, (COUNT, prompt, completion), seconds=30)
    # What the engine took by itself is `start_ms`. The figure is for the record (docs/performance.md);
    # the bound only finds what is wrong by orders, on a machine that does other things besides.
    added_ms = seen.first_token_s(0.99) * 1000 - start_ms
    record_property("first token p99, ms over the engine's own", round(added_ms, 1))
    print(f"{surface}: first token p99 {added_ms:.1f} ms over the engine's own")
    assert added_ms < 500


async def test_memory_is_afterwards_as_before(stack):
    """What a crowd needs is kept for the next one (allocators do so), and not more with each.

    Four crowds after the first may add 32 MiB to the whole system: 8 KiB for each of their streams,
    which is less than any one of them holds while it runs.
    """
    team = stack.new_team()
    text = steered(12, pace_ms=200)
    for surface in ("http", "grpc"):
        assert (await crowd(stack, surface, team.key, text, AT_ONCE)).broken == []
    await stack.mock_idle()
    before, in_use_before = memory(stack), in_use_by_envoy(stack)
    for surface in ("http", "grpc", "http", "grpc"):
        assert (await crowd(stack, surface, team.key, text, AT_ONCE)).broken == []
    await stack.mock_idle()
    after = memory(stack)
    told = {name: (round(before[name]), round(after[name])) for name in PROGRAMS}
    print(f"MiB before and after 4 000 streams: {told}")
    assert sum(after.values()) - sum(before.values()) < 32, told
    assert in_use_by_envoy(stack) - in_use_before < 4
