"""Which passwords are accepted (after NIST SP 800-63B: length, and none of the obvious)."""

from ias_identity.domain.errors import WeakPassword

MIN_CHARACTERS = 12
MAX_BYTES = 1024
_MIN_DISTINCT = 5
_MIN_REST = 4
"""Characters that must remain once everything obvious is taken out."""
_OBVIOUS = (
    "password", "passwort", "passw0rd", "p@ssw0rd", "letmein", "welcome", "iloveyou", "dragon",
    "monkey", "football", "baseball", "superman", "trustno1", "admin", "administrator", "login",
    "secret", "changeme", "default", "qwerty", "qwertz", "azerty", "asdfgh", "zxcvbn", "yxcvbn",
    "abcdefghijklmnopqrstuvwxyz", "abcdef", "abc", "0123456789", "1234567890", "123456789",
    "12345678", "1234567", "123456", "12345", "1234", "123", "9876543210", "987654321", "654321",
    "inference", "openai", "ias",
)  # fmt: skip


def check(password: str, email: str) -> None:
    """Raises WeakPassword unless it is long enough and not obvious for this person."""
    if len(password) < MIN_CHARACTERS:
        raise WeakPassword(f"{MIN_CHARACTERS} characters or more")
    if len(password.encode(errors="replace")) > MAX_BYTES:
        raise WeakPassword(f"{MAX_BYTES} bytes or less")
    folded = password.casefold()
    if len(set(folded)) < _MIN_DISTINCT:
        raise WeakPassword(f"{_MIN_DISTINCT} different characters or more")
    name, _, domain = email.casefold().partition("@")
    own = [part for part in (name, domain, *domain.split(".")) if len(part) > 3]
    for obvious in (*own, *_OBVIOUS):
        folded = folded.replace(obvious, "")
    if len(folded) < _MIN_REST:
        raise WeakPassword("nothing as obvious as this: a known password or one's own address")
