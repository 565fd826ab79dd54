"""Every RPC of identity, walked from the descriptors: who is refused, before any rule runs."""

import uuid

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from ias.access.v1 import access_pb2

from ias_identity.wiring import EDGE_SERVICES
from ias_runtime import access
from ias_runtime.caller import Caller, CallerKind, Role

METHODS = [
    method
    for service in EDGE_SERVICES
    if service.file.package == "ias.identity.v1"
    for method in service.methods
]
RULES = {method: access.rule_of(method) for method in METHODS}
NEEDS_ROLE = [m for m in METHODS if RULES[m].WhichOneof("rule") in ("permission", "any_permission")]
NOT_PUBLIC = [m for m in METHODS if not RULES[m].public]


def name(value):
    return value.name if hasattr(value, "name") else str(value)


def sufficient(method):
    rule = RULES[method]
    return set(rule.any_permission.permissions) or {rule.permission}


def invoke(identity, method, metadata):
    call = identity.channel.unary_unary(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    return call(GetMessageClass(method.input_type)(), metadata=metadata)


def caller(kind, role=Role.NONE):
    ids = {"user_id": str(uuid.uuid4())} if role is not Role.NONE else {}
    if role not in (Role.NONE, Role.SYSTEM_ADMIN):
        ids["organization_id"] = str(uuid.uuid4())
    return Caller(kind=kind, role=role, **ids)


def test_every_rpc_of_identity_states_a_rule_and_is_served():
    assert METHODS
    assert all(rule is not None and rule.WhichOneof("rule") for rule in RULES.values())


@pytest.mark.parametrize("method", METHODS, ids=name)
async def test_without_a_signed_caller_every_rpc_refuses(identity, refused, method):
    assert (await refused(invoke(identity, method, ()))).code == "UNAUTHENTICATED"


@pytest.mark.parametrize("method", METHODS, ids=name)
async def test_a_caller_signed_by_someone_else_is_refused(identity, refused, method):
    forged = (("x-ias-caller", "eyJhbGciOiJub25lIn0.eyJraW5kIjoic2Vzc2lvbiJ9."),)
    assert (await refused(invoke(identity, method, forged))).code == "UNAUTHENTICATED"


@pytest.mark.parametrize("method", NOT_PUBLIC, ids=name)
async def test_nobody_in_particular_is_refused_but_by_public_rpcs(identity, refused, method):
    metadata = identity.sign(caller(CallerKind.ANONYMOUS))
    assert (await refused(invoke(identity, method, metadata))).code == "UNAUTHENTICATED"


@pytest.mark.parametrize("method", NEEDS_ROLE, ids=name)
@pytest.mark.parametrize("role", [role for role in Role if role], ids=name)
async def test_the_role_decides_exactly_as_the_contract_says(identity, refused, method, role):
    metadata = identity.sign(caller(CallerKind.SESSION, role))
    if sufficient(method) & access.grants(role):
        try:
            await invoke(identity, method, metadata)
        except grpc.aio.AioRpcError as error:
            assert error.code() in (
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.NOT_FOUND,
            )
    else:
        answer = await refused(invoke(identity, method, metadata))
        assert (answer.code, answer.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")


@pytest.mark.parametrize("method", NEEDS_ROLE, ids=name)
@pytest.mark.parametrize("role", [Role.ORG_ADMIN, Role.ORG_USER], ids=name)
async def test_an_api_key_manages_nothing(identity, refused, method, role):
    assert access_pb2.PERMISSION_INFERENCE_CALL not in sufficient(method)
    metadata = identity.sign(caller(CallerKind.API_KEY, role))
    answer = await refused(invoke(identity, method, metadata))
    assert (answer.code, answer.reason) == ("PERMISSION_DENIED", "WRONG_CREDENTIAL_KIND")


async def test_a_system_admin_cannot_create_a_key(identity, refused):
    create = next(method for method in METHODS if method.name == "CreateApiKey")
    answer = await refused(invoke(identity, create, identity.admin))
    assert answer.code == "PERMISSION_DENIED"
