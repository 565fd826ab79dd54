"""API keys: what programs show to call the inference API.

A key is `ias_` + 12 characters that find it + 34 of secret + 6 of checksum, all base62. The
checksum (CRC-32 of what stands before it) tells a mistyped or made-up key without a query.
"""

import hmac
import ipaddress
import re
import secrets
import string
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ias_identity.domain.organizations import Organizations
from ias_identity.domain.ports import Announcer, ApiKeyStore
from ias_runtime.caller import Caller, Role
from ias_runtime.errors import InvalidField, NotFound

PREFIX = "ias_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_LOOKUP, _SECRET, _CHECKSUM = 12, 34, 6
_CHECKED = len(PREFIX) + _LOOKUP + _SECRET
_SHAPE = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_LOOKUP + _SECRET + _CHECKSUM}}}")
MAX_MODELS = MAX_CIDRS = 100
_MODEL_MAX = 200


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key, without its secret. Times are UTC; None means never."""

    id: str
    lookup: str
    """The 12 characters that find it; no secret, but not shown either."""
    organization_id: str
    user_id: str
    name: str
    display: str
    allowed_models: tuple[str, ...]
    allowed_cidrs: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    last_used_address: str = ""


class KeyHasher:
    """What is kept of a key: HMAC-SHA256 (RFC 2104) with a pepper that no table holds."""

    def __init__(self, pepper: str) -> None:
        self._pepper = pepper.encode()

    def hash(self, key: str) -> bytes:
        """The keyed hash of a whole key."""
        return hmac.digest(self._pepper, key.encode(), "sha256")


class ApiKeys:
    """What may be done with keys, and by whom."""

    def __init__(
        self,
        store: ApiKeyStore,
        organizations: Organizations,
        hasher: KeyHasher,
        announcer: Announcer,
    ) -> None:
        self._store = store
        self._organizations = organizations
        self._hasher = hasher
        self._announcer = announcer

    async def create(
        self,
        caller: Caller,
        name: str,
        *,
        allowed_models: Sequence[str],
        allowed_cidrs: Sequence[str],
        expires_at: datetime | None,
    ) -> tuple[ApiKey, str]:
        """A new key of the caller's own, and the whole of it. Raises InvalidField."""
        now = datetime.now(UTC)
        if expires_at is not None and expires_at <= now:
            raise InvalidField("expire_time", "must be in the future")
        secret = generate()
        key = ApiKey(
            id=str(uuid.uuid4()),
            lookup=lookup_of(secret),
            organization_id=caller.organization(""),
            user_id=caller.user_id,
            name=name,
            display=display(secret),
            allowed_models=_models(allowed_models),
            allowed_cidrs=_cidrs(allowed_cidrs),
            created_at=now,
            expires_at=expires_at,
        )
        await self._store.add(caller, key, self._hasher.hash(secret))
        return key, secret

    async def get(self, caller: Caller, key_id: str) -> ApiKey:
        """One that the caller may see. Raises NotFound otherwise, alike for others' keys."""
        key = await self._store.find(key_id)
        if key is None or not _may_see(caller, key):
            raise NotFound("api_key", key_id)
        return key

    async def list(
        self,
        caller: Caller,
        organization: str,
        user_id: str,
        *,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> list[ApiKey]:
        """Those that the caller may see, newest first, beginning after `before`."""
        only = await self._organizations.scope(caller, organization)
        if caller.role is Role.ORG_USER:
            if user_id not in ("", caller.user_id):
                raise NotFound("user", user_id)
            user_id = caller.user_id
        return await self._store.list(
            organization_id=only, user_id=user_id or None, before=before, limit=limit
        )

    async def revoke(self, caller: Caller, key_id: str) -> ApiKey:
        """Revokes one for good; nothing changes when it is revoked already."""
        await self.get(caller, key_id)
        key = await self._store.revoke(caller, key_id)
        if key is None:
            raise NotFound("api_key", key_id)
        # Announced even when it was revoked before: a caller who repeats it wants to be sure.
        await self._announcer.announce("api_key", key.id)
        return key


def generate() -> str:
    """A new key, 202 bits of it secret."""
    body = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_LOOKUP + _SECRET))
    return body + _checksum(body)


def is_well_formed(key: str) -> bool:
    """Whether shape and checksum are right; says nothing about whether there is such a key."""
    return _SHAPE.fullmatch(key) is not None and _checksum(key[:_CHECKED]) == key[_CHECKED:]


def lookup_of(key: str) -> str:
    """The characters that find a well-formed key."""
    return key[len(PREFIX) : len(PREFIX) + _LOOKUP]


def display(key: str) -> str:
    """The first and last characters, for recognition: `ias_AbCd…wxyz`."""
    return f"{key[:8]}…{key[-4:]}"


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = ""
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def _models(names: Sequence[str]) -> tuple[str, ...]:
    if len(names) > MAX_MODELS:
        raise InvalidField("allowed_models", f"at most {MAX_MODELS}")
    for name in names:
        if not name or len(name) > _MODEL_MAX or not name.isprintable():
            raise InvalidField("allowed_models", f"names of 1 to {_MODEL_MAX} characters")
    return tuple(dict.fromkeys(names))


def _cidrs(ranges: Sequence[str]) -> tuple[str, ...]:
    if len(ranges) > MAX_CIDRS:
        raise InvalidField("allowed_cidrs", f"at most {MAX_CIDRS}")
    try:
        parsed = [str(ipaddress.ip_network(text.strip())) for text in ranges]
    except ValueError:
        raise InvalidField(
            "allowed_cidrs", "networks such as 203.0.113.0/24 or 2001:db8::/32"
        ) from None
    return tuple(dict.fromkeys(parsed))


def _may_see(caller: Caller, key: ApiKey) -> bool:
    if caller.is_system_admin:
        return True
    if key.organization_id != caller.organization_id:
        return False
    return caller.role is Role.ORG_ADMIN or key.user_id == caller.user_id
