"""The form of an API key."""

import re
import zlib

from hypothesis import given
from hypothesis import strategies as st

from ias_identity.domain import api_keys

PUBLISHED = re.compile(r"\bias_[0-9A-Za-z]{52}\b")


def test_a_new_key_has_the_published_form_and_a_right_checksum():
    keys = {api_keys.generate() for _ in range(200)}
    assert len(keys) == 200
    for key in keys:
        assert PUBLISHED.fullmatch(key)
        assert api_keys.is_well_formed(key)
        assert len(api_keys.lookup_of(key)) == 12


def test_the_checksum_is_crc32_in_base62_padded_with_zeros():
    key = api_keys.generate()
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    number = 0
    for digit in key[50:]:
        number = number * 62 + alphabet.index(digit)
    assert number == zlib.crc32(key[:50].encode())


@given(st.integers(0, 55), st.sampled_from("0Aa_é \n"))
def test_a_mistyped_key_is_found_out_without_a_query(position, other):
    key = api_keys.generate()
    mistyped = key[:position] + other + key[position + 1 :]
    assert api_keys.is_well_formed(mistyped) == (mistyped == key)


@given(st.text())
def test_no_text_breaks_the_check_of_form(text):
    assert not api_keys.is_well_formed(text)
    assert not api_keys.is_well_formed("ias_" + text)


def test_a_display_shows_the_first_and_last_four():
    assert api_keys.display("ias_AbCd" + "x" * 44 + "wxyz") == "ias_AbCd…wxyz"
