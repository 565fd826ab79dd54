"""Who may call what: one denial for each RPC and each wrong caller, walked from the descriptors."""

import uuid
from collections.abc import Callable
from functools import partial

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from ias.metering.v1 import budgets_pb2, leases_pb2, usage_pb2
from metering_callers import Metadata, api_key, failure, inference, session

from ias_runtime import access
from ias_runtime.caller import Role

METHODS = [
    method
    for module in (budgets_pb2, leases_pb2, usage_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
OWN, OTHER = str(uuid.uuid4()), str(uuid.uuid4())
Sign = Callable[[], Metadata]
"""Makes a caller's metadata when it is used: tokens are short-lived."""
ROLES = (Role.NONE, Role.SYSTEM_ADMIN, Role.ORG_ADMIN, Role.ORG_USER)


def permission_of(method: MethodDescriptor) -> int:
    rule = access.rule_of(method)
    assert rule is not None
    return rule.permission


def wrong_callers() -> list[object]:
    """Every RPC with every caller that must not pass: (method, caller, expected code)."""
    code = grpc.StatusCode
    cases = []
    for method in METHODS:
        rule = access.rule_of(method)
        assert rule is not None, f"{method.full_name} states no rule"
        wrong: list[tuple[str, Sign, grpc.StatusCode]] = [
            ("no caller", tuple, code.UNAUTHENTICATED),
            ("forged", lambda: (("x-ias-caller", "e30.e30.e30"),), code.UNAUTHENTICATED),
            ("an API key", partial(api_key, OWN), code.PERMISSION_DENIED),
        ]
        if rule.service:
            wrong += [
                (role.value or "no role", partial(session, role, OWN), code.PERMISSION_DENIED)
                for role in ROLES
            ]
        else:
            wrong.append(("a service", inference, code.PERMISSION_DENIED))
            wrong += [
                (role.value or "no role", partial(session, role, OWN), code.PERMISSION_DENIED)
                for role in ROLES
                if permission_of(method) not in access.grants(role)
            ]
        cases += [
            pytest.param(method, sign, expected, id=f"{method.name} by {who}")
            for who, sign, expected in wrong
        ]
    return cases


async def invoke(
    channel: grpc.aio.Channel, method: MethodDescriptor, metadata: Metadata, **fields: object
) -> object:
    request = GetMessageClass(method.input_type)(**fields)
    response = GetMessageClass(method.output_type)
    call = channel.unary_unary(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=response.FromString,
    )
    return await call(request, metadata=metadata)


@pytest.mark.parametrize(("method", "sign", "code"), wrong_callers())
async def test_the_wrong_caller_is_refused(
    channel: grpc.aio.Channel,
    method: MethodDescriptor,
    sign: Sign,
    code: grpc.StatusCode,
) -> None:
    refused, _ = await failure(invoke(channel, method, sign()))
    assert refused is code


def in_organization(method: MethodDescriptor, organization_id: str) -> dict[str, object]:
    """The fields of a request about an organisation."""
    scope = budgets_pb2.BudgetScope(organization_id=organization_id)
    return {
        "GetBudget": {"scope": scope},
        "UpdateBudget": {"budget": budgets_pb2.Budget(scope=scope)},
        "QueryUsage": {"organization_id": organization_id},
    }[method.name]


@pytest.mark.parametrize(
    ("method", "role"),
    [
        pytest.param(method, role, id=f"{method.name} by {role}")
        for method in METHODS
        for role in (Role.ORG_ADMIN, Role.ORG_USER)
        if permission_of(method) in access.grants(role)
    ],
)
async def test_another_organisation_is_answered_as_if_it_did_not_exist(
    channel: grpc.aio.Channel, method: MethodDescriptor, role: Role
) -> None:
    caller = session(role, OWN)
    assert await invoke(channel, method, caller, **in_organization(method, OWN))
    code, info = await failure(invoke(channel, method, caller, **in_organization(method, OTHER)))
    assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
