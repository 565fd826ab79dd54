"""The tokens of sessions: which there are, and what of them is kept.

* access token `iass_`: the session's id, its expiry and an HMAC-SHA256 (RFC 2104) over both. A
  forged one is found out without a look-up, and no table holds anything of it; whether the
  session still stands is asked of the credentials' cache.
* refresh token `iasr_`, invitation `iasi_`: 256 random bits; SHA-256 is kept, which suffices
  for secrets that cannot be guessed.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
import uuid
from datetime import UTC, datetime, timedelta

ACCESS_PREFIX = "iass_"
REFRESH_PREFIX = "iasr_"
ACCESS_TTL = timedelta(hours=1)
REFRESH_TTL = timedelta(days=7)
_BODY = struct.Struct(">16sQ")
_ACCESS_LENGTH = len(ACCESS_PREFIX) + 75  # base64 of 24 + 32 bytes, without padding


def hash_token(token: str) -> bytes:
    """What is kept of a refresh token or an invitation."""
    return hashlib.sha256(token.encode()).digest()


def new_refresh_token() -> str:
    """256 random bits."""
    return REFRESH_PREFIX + secrets.token_urlsafe(32)


class AccessTokens:
    """Signs and verifies access tokens."""

    def __init__(self, pepper: str) -> None:
        # A key of its own, so that no two uses of the pepper can be played against each other.
        self._key = hmac.digest(pepper.encode(), b"ias session access token", "sha256")

    def issue(self, session_id: str) -> tuple[str, datetime]:
        """A new token, and until when it is valid."""
        expires_at = (datetime.now(UTC) + ACCESS_TTL).replace(microsecond=0)
        body = _BODY.pack(uuid.UUID(session_id).bytes, int(expires_at.timestamp()))
        signed = body + hmac.digest(self._key, body, "sha256")
        return ACCESS_PREFIX + base64.urlsafe_b64encode(signed).decode().rstrip("="), expires_at

    def read(self, token: str) -> tuple[str, float] | None:
        """The session's id and the expiry (Unix seconds); None for a token that is not ours."""
        if len(token) != _ACCESS_LENGTH or not token.isascii():
            return None
        try:
            signed = base64.b64decode(token[len(ACCESS_PREFIX) :] + "=", b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        body, mac = signed[: _BODY.size], signed[_BODY.size :]
        if not hmac.compare_digest(mac, hmac.digest(self._key, body, "sha256")):
            return None
        session, expires_at = _BODY.unpack(body)
        return str(uuid.UUID(bytes=session)), float(expires_at)
