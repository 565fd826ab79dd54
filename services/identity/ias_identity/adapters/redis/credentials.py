"""Credentials in Redis: what one process has loaded, the others needn't.

Holds the keyed hash of a key, never the key. Everything here may vanish at any time.
"""

import ipaddress
import time
from collections.abc import Sequence
from dataclasses import asdict

import msgspec
import redis.asyncio as redis

from ias_identity.adapters.redis.breaker import Breaker, Down
from ias_identity.domain.access import Credential
from ias_runtime.caller import CallerKind, Role

_NOT_STORED = ("networks", "good_until", "live", "kind", "role", "secret_hash")


class RedisCredentials:
    """A cache that never fails: without Redis it knows nothing."""

    def __init__(self, client: redis.Redis, breaker: Breaker, ttl_s: float) -> None:
        self._client = client
        self._breaker = breaker
        self._ttl_s = ttl_s

    async def get(self, kind: CallerKind, lookup: str) -> Credential | None:
        """None when it isn't here."""
        try:
            stored = await self._breaker.run(self._client.get(_name(kind, lookup)))
        except Down:
            return None
        return None if stored is None else _decode(stored)

    async def put(self, credential: Credential) -> None:
        """Keeps it for what remains of its time."""
        left_ms = int((credential.loaded_at + self._ttl_s - time.time()) * 1000)
        if left_ms <= 0:
            return
        try:
            name = _name(credential.kind, credential.lookup)
            await self._breaker.run(self._client.set(name, _encode(credential), px=left_ms))
        except Down:
            pass

    async def drop(self, credentials: Sequence[Credential]) -> None:
        """Forgets them."""
        try:
            names = [_name(credential.kind, credential.lookup) for credential in credentials]
            await self._breaker.run(self._client.delete(*names))
        except Down:
            pass


def _name(kind: CallerKind, lookup: str) -> str:
    return f"ias:identity:{kind.value}:{lookup}"


def _encode(credential: Credential) -> bytes:
    fields = {name: value for name, value in asdict(credential).items() if name not in _NOT_STORED}
    fields["kind"] = credential.kind.value
    fields["role"] = credential.role.value
    fields["secret_hash"] = credential.secret_hash.hex()
    fields["networks"] = [str(network) for network in credential.networks]
    return msgspec.json.encode(fields)


def _decode(stored: bytes | str) -> Credential | None:
    try:
        fields = msgspec.json.decode(stored)
        fields["kind"] = CallerKind(fields["kind"])
        fields["role"] = Role(fields["role"])
        fields["secret_hash"] = bytes.fromhex(fields["secret_hash"])
        fields["networks"] = tuple(ipaddress.ip_network(cidr) for cidr in fields["networks"])
        fields["allowed_models"] = tuple(fields["allowed_models"])
        return Credential(**fields)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return None  # written by another version of IAS
