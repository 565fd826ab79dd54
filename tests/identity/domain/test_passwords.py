"""Which passwords are good enough."""

import pytest

from ias_identity.domain import passwords
from ias_identity.domain.errors import WeakPassword


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "elevenchars",
        "aaaaaaaaaaaaaaaa",
        "abababababababab",
        "password1234",
        "Password123456",
        "qwerty123456",
        "ann.example@acme.test",
        "letmein123456",
        "x" * 1025,
    ],
)
def test_an_obvious_password_is_refused(password):
    with pytest.raises(WeakPassword) as caught:
        passwords.check(password, "ann.example@acme.test")
    assert caught.value.reason == "WEAK_PASSWORD"
    assert password not in caught.value.message


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "Tr0ub4dor&3-more",
        "пароль-подлиннее",
        "🦊" * 3 + "keeps warm at night",
    ],
)
def test_a_long_enough_password_of_any_kind_is_accepted(password):
    passwords.check(password, "ann@acme.test")
