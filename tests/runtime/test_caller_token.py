"""x-ias-caller: only identity can sign a person, only the mesh can sign a service."""

import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from ias_testing import MESH_SECRET as SECRET
from ias_testing import PRIVATE_KEY as PRIVATE
from ias_testing import PUBLIC_KEY as PUBLIC
from ias_testing import key_pair

from ias_runtime import caller_token
from ias_runtime.caller import Caller, CallerKind, Role
from ias_runtime.caller_token import CallerSigner, CallerVerifier, MeshSigner
from ias_runtime.errors import Unauthenticated

PERSON = Caller(
    kind=CallerKind.API_KEY,
    role=Role.ORG_USER,
    organization_id="0b7cbf9e-8a40-4c7d-9b1c-4a7f3b9f6a01",
    api_key_id="0b7cbf9e-8a40-4c7d-9b1c-4a7f3b9f6a02",
    model="org/llama",
    allowed_models=("org/llama", "other"),
    address="203.0.113.7",
)


def test_what_identity_signed_comes_back_whole():
    token = CallerSigner(PRIVATE).sign(PERSON)
    verifier = CallerVerifier([PUBLIC], SECRET, "metering")
    assert verifier.verify(token) == PERSON
    assert verifier.verify(token) is verifier.verify(token), "the second look is cached"


def test_a_service_speaks_for_itself():
    ((header, token),) = MeshSigner(SECRET, "inference", "metering").metadata()
    assert header == "x-ias-caller"
    assert CallerVerifier([PUBLIC], SECRET, "metering").verify(token) == Caller(
        kind=CallerKind.SERVICE, service="inference"
    )


def test_keys_can_be_rotated_with_both_in_force():
    new_private, new_public = key_pair()
    verifier = CallerVerifier([PUBLIC, new_public], SECRET, "metering")
    assert verifier.verify(CallerSigner(PRIVATE).sign(PERSON)) == PERSON
    assert verifier.verify(CallerSigner(new_private).sign(PERSON)) == PERSON


def forged() -> dict[str, str]:
    claims = {"kind": "api_key", "role": "org_user", "exp": 4102444800}
    service = {"kind": "service", "role": "", "exp": 4102444800}
    private_key = serialization.load_pem_private_key(PRIVATE.encode(), None)
    return {
        "empty": "",
        "noise": "x.y.z",
        "another key": CallerSigner(key_pair()[0]).sign(PERSON),
        "another mesh": MeshSigner("b" * 40, "inference", "metering").metadata()[0][1],
        "to another service": MeshSigner(SECRET, "inference", "identity").metadata()[0][1],
        "a service that names nobody": jwt.encode(service, SECRET, algorithm="HS256"),
        "unsigned": jwt.encode(claims, "", algorithm="none"),
        "a person signed with the mesh secret": jwt.encode(claims, SECRET, algorithm="HS256"),
        "a service signed by identity": jwt.encode(service, private_key, algorithm="EdDSA"),
        "the public key used as a secret": jwt.api_jws.PyJWS().encode(
            b"{}", b"k" * 32, algorithm="HS256"
        ),
        "expired": jwt.encode({**claims, "exp": 1}, private_key, algorithm="EdDSA"),
        "no expiry": jwt.encode({"kind": "session", "role": ""}, private_key, algorithm="EdDSA"),
        "cut short": CallerSigner(PRIVATE).sign(PERSON)[:-4],
    }


@pytest.mark.parametrize("name", forged())
def test_a_forged_token_is_refused(name: str):
    with pytest.raises(Unauthenticated):
        CallerVerifier([PUBLIC], SECRET, "metering").verify(forged()[name])


def test_a_cached_token_still_expires(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(caller_token, "TTL_S", 1)
    token = CallerSigner(PRIVATE).sign(PERSON)
    verifier = CallerVerifier([PUBLIC], SECRET, "metering")
    verifier.verify(token)
    time.sleep(1.1)  # nothing announces that a moment has passed
    with pytest.raises(Unauthenticated):
        verifier.verify(token)
