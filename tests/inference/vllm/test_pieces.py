"""How the outputs of an engine become messages: nothing lost, in order, as often as the pace says."""

import asyncio
from types import SimpleNamespace

import pytest

from ias_inference.adapters.engines.vllm.pieces import LONGEST_S, Pace, Pieces


def output(text: str, tokens: int = 1, finish_reason: str | None = None) -> SimpleNamespace:
    """A RequestOutput as far as it is read."""
    piece = SimpleNamespace(
        text=text, token_ids=[0] * tokens, finish_reason=finish_reason, stop_reason=None
    )
    return SimpleNamespace(outputs=[piece], num_cached_tokens=0)


async def test_what_queued_up_is_taken_together() -> None:
    pieces = Pieces()
    for text in ("a", "b", "c"):
        pieces.put(output(text))
    await pieces.ready()
    assert pieces.take(100) == ("abc", 3)
    assert not pieces.done


async def test_no_more_is_taken_than_there_is_room_for() -> None:
    pieces = Pieces()
    for text in ("a", "b", "c"):
        pieces.put(output(text))
    pieces.put(output("d", 2, "length"))
    assert pieces.take(2) == ("ab", 2)
    assert not pieces.done, "the end comes with the last piece"
    assert pieces.take(2) == ("c", 1)
    assert pieces.take(1) == ("d", 2), "a piece is never cut, and at least one is taken"
    assert pieces.done
    assert pieces.produced == 5


async def test_a_waiter_wakes_for_the_first_token_and_for_the_end() -> None:
    pieces = Pieces(Pace())
    waiting = asyncio.ensure_future(pieces.ready())
    await asyncio.sleep(0)
    pieces.put(output("a"))
    await asyncio.wait_for(waiting, 1)


async def test_an_error_reaches_who_waits() -> None:
    pieces = Pieces()
    waiting = asyncio.ensure_future(pieces.ready())
    await asyncio.sleep(0)
    pieces.put(ValueError("dead"))
    with pytest.raises(ValueError, match="dead"):
        await waiting


async def test_many_streams_gather_tokens_and_the_end_does_not_wait() -> None:
    pace = Pace()
    pace.streams = 10_000
    assert pace.interval_s() == LONGEST_S
    pieces = Pieces(pace)
    pieces.put(output("a"))
    await pieces.ready()
    pieces.take(100)
    started = asyncio.get_running_loop().time()
    waiting = asyncio.ensure_future(pieces.ready())
    await asyncio.sleep(0)
    pieces.put(output("b"))
    pieces.put(output("c"))
    await asyncio.sleep(0)
    assert not waiting.done(), "the pace holds it back"
    await waiting  # though no further token comes
    assert asyncio.get_running_loop().time() - started >= LONGEST_S * 0.9
    assert pieces.take(100) == ("bc", 2)
    waiting = asyncio.ensure_future(pieces.ready())
    await asyncio.sleep(0)
    pieces.put(output("d", finish_reason="stop"))
    await asyncio.wait_for(waiting, LONGEST_S / 2)


async def test_a_lone_stream_is_never_held_back() -> None:
    pace = Pace()
    pace.streams = 1
    pieces = Pieces(pace)
    for text in "abc":
        pieces.put(output(text))
        await asyncio.wait_for(pieces.ready(), 0.05)
        assert pieces.take(10) == (text, 1)
