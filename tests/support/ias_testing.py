"""What tests of several packages share: keys, signed callers, free ports."""

import contextlib
import socket

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ias_runtime.caller import Caller
from ias_runtime.caller_token import HEADER, CallerSigner


def key_pair() -> tuple[str, str]:
    """A fresh Ed25519 pair in PEM: private, public."""
    private = Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    return (
        private.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        private.public_key()
        .public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    )


PRIVATE_KEY, PUBLIC_KEY = key_pair()
MESH_SECRET = "a mesh secret of more than 32 characters"


def signed(caller: Caller, **headers: str) -> tuple[tuple[str, str], ...]:
    """gRPC metadata as Envoy sends it on for this caller; x_request_id=… adds x-request-id.

    Valid for an hour: parameters are signed while tests are collected, long before they run.
    """
    token = CallerSigner(PRIVATE_KEY).sign(caller)
    claims = jwt.decode(token, options={"verify_signature": False})
    token = jwt.encode({**claims, "exp": claims["exp"] + 3600}, PRIVATE_KEY, algorithm="EdDSA")
    metadata = {HEADER: token, **headers}
    return tuple((name.replace("_", "-"), value) for name, value in metadata.items())


def free_address() -> str:
    """A host:port on the loopback that nothing listens on."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
