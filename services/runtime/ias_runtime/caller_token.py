"""`x-ias-caller`: the proof that every call between the parts of IAS carries.

A JWT (RFC 7519) of one of two kinds:

* EdDSA (RFC 8037), signed by identity alone: a person or a program, as checked by ext_authz;
* HS256 with the mesh secret: another service of IAS speaking for itself, to the one service that
  its audience (`aud`) names: whoever got hold of it elsewhere can't use it.

Verification is cached, so that a hot caller costs one dictionary look-up a request.
"""

import time
from collections.abc import Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from ias_runtime.caller import Caller, CallerKind, Role
from ias_runtime.errors import Unauthenticated

HEADER = "x-ias-caller"
TTL_S = 30
"""Lifetime of a token. Bounds how long a revoked caller could replay one inside the mesh."""
REUSE_S = 10
"""How long the signer may hand out the same token; must leave time for the request to arrive."""
_CACHE_ENTRIES = 50_000

_CLAIMS = ("organization_id", "user_id", "api_key_id", "session_id", "model", "service", "address")


class CallerSigner:
    """Signs callers. Only identity has the private key."""

    def __init__(self, private_key_pem: str) -> None:
        key = load_pem_private_key(private_key_pem.encode(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the caller key must be an Ed25519 private key in PEM")
        self._key = key

    def sign(self, caller: Caller) -> str:
        """A token that says so for TTL_S seconds."""
        return jwt.encode(_claims(caller), self._key, algorithm="EdDSA")


class MeshSigner:
    """Signs one service's own calls to another."""

    def __init__(self, secret: str, service: str, audience: str) -> None:
        """`audience` is the name of the service that is called."""
        self._secret = secret
        self._caller = Caller(kind=CallerKind.SERVICE, service=service)
        self._audience = audience
        self._token = ""
        self._renew_at = 0.0

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """gRPC metadata for the next call."""
        now = time.time()
        if now >= self._renew_at:
            claims = _claims(self._caller) | {"aud": self._audience}
            self._token = jwt.encode(claims, self._secret, algorithm="HS256")
            self._renew_at = now + REUSE_S
        return ((HEADER, self._token),)


class CallerVerifier:
    """Verifies both kinds of token."""

    def __init__(self, public_keys_pem: Sequence[str], mesh_secret: str, service: str) -> None:
        """`service` is the name of the one that verifies."""
        keys = [load_pem_public_key(pem.encode()) for pem in public_keys_pem]
        if not keys or not all(isinstance(key, Ed25519PublicKey) for key in keys):
            raise ValueError("caller verification needs one or more Ed25519 public keys in PEM")
        self._keys = keys
        self._mesh_secret = mesh_secret
        self._service = service
        self._cache: dict[str, tuple[Caller, float]] = {}

    def verify(self, token: str) -> Caller:
        """The caller a token speaks of. Raises Unauthenticated when it is not valid now."""
        cached = self._cache.get(token)
        if cached is not None and cached[1] > time.time():
            return cached[0]
        caller, expires_at = self._verify(token)
        if len(self._cache) >= _CACHE_ENTRIES:
            self._cache.clear()
        self._cache[token] = (caller, expires_at)
        return caller

    def _verify(self, token: str) -> tuple[Caller, float]:
        try:
            service = jwt.get_unverified_header(token).get("alg") == "HS256"
            claims = (
                jwt.decode(token, self._mesh_secret, algorithms=["HS256"], audience=self._service)
                if service
                else self._decode_signed_by_identity(token)
            )
            kind = CallerKind(claims["kind"])
            if service != (kind is CallerKind.SERVICE):
                raise Unauthenticated("This caller token was signed by the wrong party.")
            caller = Caller(
                kind=kind,
                role=Role(claims["role"]),
                allowed_models=tuple(claims.get("allowed_models", ())),
                **{name: str(claims.get(name, "")) for name in _CLAIMS},
            )
            return caller, float(claims["exp"])
        except (jwt.InvalidTokenError, KeyError, ValueError) as error:
            raise Unauthenticated(
                "No valid x-ias-caller; call IAS through its front door."
            ) from error

    def _decode_signed_by_identity(self, token: str) -> dict[str, Any]:
        for key in self._keys[:-1]:
            try:
                return jwt.decode(token, key, algorithms=["EdDSA"])  # type: ignore[arg-type]
            except jwt.InvalidSignatureError:
                continue
        return jwt.decode(token, self._keys[-1], algorithms=["EdDSA"])  # type: ignore[arg-type]


def _claims(caller: Caller) -> dict[str, object]:
    claims: dict[str, object] = {"kind": caller.kind.value, "role": caller.role.value}
    claims.update({name: value for name in _CLAIMS if (value := getattr(caller, name))})
    if caller.allowed_models:
        claims["allowed_models"] = caller.allowed_models
    claims["exp"] = int(time.time()) + TTL_S
    return claims
