"""Access tokens: signed, dated, unforgeable."""

import time
import uuid

from hypothesis import given
from hypothesis import strategies as st

from ias_identity.domain.tokens import AccessTokens

TOKENS = AccessTokens("p" * 40)
SESSION = str(uuid.uuid4())


def test_a_token_says_which_session_and_until_when():
    token, expires_at = TOKENS.issue(SESSION)
    assert token.startswith("iass_")
    session_id, until = TOKENS.read(token)
    assert session_id == SESSION
    assert until == expires_at.timestamp()
    assert 3590 < until - time.time() <= 3600


def test_a_token_of_another_pepper_is_none_of_ours():
    assert AccessTokens("q" * 40).read(TOKENS.issue(SESSION)[0]) is None


@given(st.integers(5, 79), st.sampled_from("Aaz09-_é="))
def test_no_changed_token_is_accepted(position, other):
    token, _ = TOKENS.issue(SESSION)
    changed = token[:position] + other + token[position + 1 :]
    assert (TOKENS.read(changed) is None) == (changed != token)


@given(st.text(max_size=100))
def test_no_text_breaks_the_reading(text):
    assert TOKENS.read("iass_" + text) is None
