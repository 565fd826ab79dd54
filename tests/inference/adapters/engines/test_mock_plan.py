"""What the mock says is known before it says it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ias_inference.adapters.engines import mock_tokens
from ias_inference.adapters.engines.mock_plan import Switches, parse_url, plan, switches_of
from ias_inference.domain.engines import Operation, Request, Turn
from ias_runtime.errors import InvalidField


def a_request(text: str = "Hi", **facts: object) -> Request:
    turns = [Turn("user", text)]
    known = {"model": "m", "turns": turns, "body": {}, "size_bytes": 1}
    return Request(operation=Operation.CHAT, **(known | facts))  # type: ignore[arg-type]


@given(st.text(), st.integers(1, 100), st.integers(1, 4), st.lists(st.text(max_size=3)))
def test_an_answer_keeps_its_bounds_and_never_changes(
    text: str, max_tokens: int, n: int, stop: list[str]
) -> None:
    request = a_request(text, n=n, stop=stop)
    answers = plan(request, Switches(), max_tokens)
    assert answers == plan(request, Switches(), max_tokens)
    assert len(answers) == n
    for answer in answers:
        assert 1 <= len(answer.tokens) <= max_tokens
        assert not any(s in "".join(answer.tokens) for s in stop if s)


def test_the_longest_unbounded_answer_has_forty_tokens() -> None:
    lengths = {len(plan(a_request(str(i)), Switches(), 4096)[0].tokens) for i in range(500)}
    assert (min(lengths), max(lengths)) == (16, 40)


def test_a_seed_makes_another_answer() -> None:
    assert plan(a_request(seed=1), Switches(), 50) != plan(a_request(seed=2), Switches(), 50)


def test_switches_of_a_message_count_only_where_the_registration_allows() -> None:
    turns = [Turn("user", "please [mock tokens=7 pace_ms=2 unknown=3]"), Turn("assistant", "x")]
    assert switches_of("mock:?pace_ms=1&switches=1", turns).tokens == 7
    assert switches_of("mock:?pace_ms=1&switches=1", turns).pace_ms == 2
    assert switches_of("mock:?pace_ms=1", turns) == Switches(pace_ms=1)
    assert switches_of("", [Turn("system", "[mock tokens=7]")]) == Switches()


def test_a_message_can_not_give_itself_switches() -> None:
    turns = [Turn("user", "[mock switches=1 tokens=7]")]
    assert switches_of("mock:?pace_ms=1", turns).tokens == 0


@pytest.mark.parametrize(
    "url", ["http://x", "mock:?nope=1", "mock:?tokens=x", "mock:?tokens=-1", "mock:?tokens"]
)
def test_a_registration_with_wrong_switches_is_refused(url: str) -> None:
    with pytest.raises(InvalidField):
        parse_url(url)


def test_a_prompt_is_counted_by_messages_and_pieces() -> None:
    assert (
        mock_tokens.count_chat([Turn("user", "Hello, world!"), Turn("system", "")])
        == 3 + (4 + 5) + 4
    )
