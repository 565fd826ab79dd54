"""What every contract must state, checked by walking all of them."""

import json
import re
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from ias.access.v1 import access_pb2

from ias_envoy.contract import public_services
from ias_identity.wiring import EDGE_SERVICES

ROOT = Path(__file__).resolve().parents[2]

# The table of roles in the product's description, as permissions.
GRANTS = {
    "ROLE_UNSPECIFIED": set(),
    "ROLE_SYSTEM_ADMIN": {
        "ORGANIZATIONS_WRITE",
        "ORGANIZATIONS_READ",
        "USERS_WRITE",
        "USERS_READ",
        "API_KEYS_MANAGE",
        "AUDIT_READ",
        "USAGE_READ",
        "USAGE_READ_SYSTEM",
        "BUDGETS_WRITE",
        "MODELS_WRITE",
    },
    "ROLE_ORG_ADMIN": {
        "ORGANIZATIONS_READ",
        "USERS_WRITE",
        "USERS_READ",
        "API_KEYS_CREATE",
        "API_KEYS_OWN",
        "API_KEYS_MANAGE",
        "AUDIT_READ",
        "USAGE_READ",
        "BUDGETS_WRITE",
        "INFERENCE_CALL",
    },
    "ROLE_ORG_USER": {
        "ORGANIZATIONS_READ",
        "API_KEYS_CREATE",
        "API_KEYS_OWN",
        "USAGE_READ",
        "INFERENCE_CALL",
    },
}


def _methods():
    """(full name, options) of every RPC of ours, options read with the access extension known."""
    files = descriptor_pb2.FileDescriptorSet.FromString(
        (ROOT / "gen" / "descriptors.binpb").read_bytes()
    )
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    options_class = message_factory.GetMessageClass(
        pool.FindMessageTypeByName("google.protobuf.MethodOptions")
    )
    access = pool.FindExtensionByName("ias.access.v1.access")
    for file in files.file:
        for service in file.service if file.package.startswith("ias.") else ():
            for method in service.method:
                options = options_class.FromString(method.options.SerializeToString())
                yield f"{file.package}.{service.name}/{method.name}", options.Extensions[access]


METHODS = dict(_methods())


def test_the_contracts_have_methods():
    assert "ias.inference.v1.OpenAIService/CreateChatCompletion" in METHODS


@pytest.mark.parametrize("name", METHODS)
def test_every_rpc_states_who_may_call_it(name):
    rule = METHODS[name]
    kind = rule.WhichOneof("rule")
    assert kind is not None, f"{name} has no (ias.access.v1.access)"
    if kind == "permission":
        assert rule.permission != access_pb2.PERMISSION_UNSPECIFIED
    elif kind == "any_permission":
        assert len(set(rule.any_permission.permissions)) >= 2
        assert access_pb2.PERMISSION_UNSPECIFIED not in rule.any_permission.permissions
    else:
        assert getattr(rule, kind) is True, f"{name}: {kind} = false grants nothing"


def test_only_signing_in_is_public():
    public = {name for name, rule in METHODS.items() if rule.WhichOneof("rule") == "public"}
    assert public == {
        "ias.identity.v1.SessionService/AcceptInvite",
        "ias.identity.v1.SessionService/Login",
        "ias.identity.v1.SessionService/Refresh",
    }


def test_every_role_has_its_row():
    assert set(GRANTS) == {value.name for value in access_pb2.Role.DESCRIPTOR.values}


@pytest.mark.parametrize("role", GRANTS)
def test_a_role_grants_what_the_product_says(role):
    value = access_pb2.Role.DESCRIPTOR.values_by_name[role]
    granted = [
        access_pb2.Permission.Name(p)
        for p in value.GetOptions().Extensions[access_pb2.grants].permissions
    ]
    assert len(granted) == len(set(granted))
    assert set(granted) == {f"PERMISSION_{name}" for name in GRANTS[role]}


def _reasons() -> dict[str, str]:
    """Every error reason and its comment."""
    text = (ROOT / "proto" / "ias" / "errors" / "v1" / "error_reason.proto").read_text()
    found, comment = {}, ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("//"):
            comment += " " + stripped.removeprefix("//").strip()
        elif match := re.match(r"(ERROR_REASON_\w+) = \d+;", stripped):
            found[match[1]], comment = comment.strip(), ""
        else:
            comment = ""
    return found


REASONS = _reasons()


@pytest.mark.parametrize("name", [name for name in REASONS if not name.endswith("_UNSPECIFIED")])
def test_every_error_reason_has_a_code_and_an_example(name):
    assert re.search(r"\(([A-Z_]+)\b", REASONS[name]), f"{name} names no canonical code"
    example = re.search(r"Example: (\{.*\})", REASONS[name])
    assert example, f"{name} has no example"
    metadata = json.loads(example[1])
    assert all(isinstance(value, str) for value in metadata.values())


def test_every_reason_that_code_raises_is_in_the_contract():
    known = {name.removeprefix("ERROR_REASON_") for name in REASONS}
    for file in (ROOT / "services").rglob("*.py"):
        for reason in re.findall(r'reason(?:: str)? ?= ?"([A-Z_]+)"', file.read_text()):
            assert reason in known, f"{file.relative_to(ROOT)} raises {reason}"


def test_identity_knows_every_service_that_envoy_lets_clients_reach():
    reached = {service.name for service in public_services(ROOT / "gen" / "descriptors.binpb")}
    assert {service.full_name for service in EDGE_SERVICES} == reached
