"""What every RPC goes through, over a real channel."""

from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from ias.identity.v1 import organizations_pb2, organizations_pb2_grpc
from ias_testing import MESH_SECRET, PUBLIC_KEY, free_address
from ias_testing import signed as sign

from ias_runtime import server
from ias_runtime.caller import Caller, CallerKind, Role
from ias_runtime.caller_token import HEADER, CallerVerifier
from ias_runtime.errors import InvalidField, ResourceExhausted, Unavailable
from ias_runtime.rpc import Binding, Call
from ias_runtime.settings import ChassisSettings

ADMIN = Caller(kind=CallerKind.SESSION, role=Role.SYSTEM_ADMIN, user_id="u-1", address="192.0.2.1")


class Organizations:
    """A servicer that does as its test says."""

    fails_with: Exception | None = None
    seen: Call | None = None

    async def CreateOrganization(self, request, call):
        self.seen = call
        if self.fails_with is not None:
            raise self.fails_with
        return organizations_pb2.CreateOrganizationResponse(
            organization=organizations_pb2.Organization(name=request.name)
        )

    async def GetOrganization(self, request, call):
        raise AssertionError("not called in these tests")

    ListOrganizations = GetOrganization


@pytest.fixture
def servicer() -> Organizations:
    return Organizations()


@pytest.fixture
async def stub(
    servicer: Organizations,
) -> AsyncIterator[organizations_pb2_grpc.OrganizationServiceStub]:
    settings = ChassisSettings(
        database_url="unused", caller_public_keys=PUBLIC_KEY, mesh_secret=MESH_SECRET
    )
    address = free_address()
    binding = Binding(
        organizations_pb2.DESCRIPTOR.services_by_name["OrganizationService"], servicer
    )
    service = server.Service("test", address, "", [binding])
    running, _ = server.build(
        settings, service, CallerVerifier(settings.public_keys(), MESH_SECRET, service.name)
    )
    await running.start()
    async with grpc.aio.insecure_channel(address) as channel:
        yield organizations_pb2_grpc.OrganizationServiceStub(channel)
    await running.stop(0)


def signed(caller: Caller = ADMIN, **headers: str) -> tuple[tuple[str, str], ...]:
    return sign(caller, **headers)


async def failure(stub, servicer, error: Exception) -> tuple[grpc.aio.AioRpcError, dict]:
    servicer.fails_with = error
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CreateOrganization(
            organizations_pb2.CreateOrganizationRequest(), metadata=signed()
        )
    details = {}
    for packed in rpc_status.from_call(caught.value).details:
        for kind in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.RetryInfo,
            error_details_pb2.QuotaFailure,
            error_details_pb2.BadRequest,
        ):
            if packed.Is(kind.DESCRIPTOR):
                details[kind.DESCRIPTOR.name] = unpacked = kind()
                packed.Unpack(unpacked)
    return caught.value, details


async def test_the_handler_is_told_who_calls_and_in_which_request(stub, servicer):
    request = organizations_pb2.CreateOrganizationRequest(name="acme")
    answer = await stub.CreateOrganization(request, metadata=signed(x_request_id="r-7"))
    assert answer.organization.name == "acme"
    assert servicer.seen.caller.user_id == "u-1"
    assert servicer.seen.caller.address == "192.0.2.1"
    assert servicer.seen.caller.request_id == "r-7"


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ((), grpc.StatusCode.UNAUTHENTICATED),
        (((HEADER, "forged"),), grpc.StatusCode.UNAUTHENTICATED),
        (signed(Caller(kind=CallerKind.ANONYMOUS)), grpc.StatusCode.UNAUTHENTICATED),
        (
            signed(Caller(kind=CallerKind.SESSION, role=Role.ORG_ADMIN)),
            grpc.StatusCode.PERMISSION_DENIED,
        ),
        (
            signed(Caller(kind=CallerKind.API_KEY, role=Role.SYSTEM_ADMIN)),
            grpc.StatusCode.PERMISSION_DENIED,
        ),
    ],
)
async def test_a_caller_who_may_not_never_reaches_the_handler(stub, servicer, metadata, code):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CreateOrganization(
            organizations_pb2.CreateOrganizationRequest(), metadata=metadata
        )
    assert caught.value.code() is code
    assert servicer.seen is None


async def test_an_unforeseen_failure_shows_nothing_of_its_inside(stub, servicer):
    error, details = await failure(stub, servicer, ValueError("password=hunter2"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in error.details() + str(error.trailing_metadata())
    assert details["ErrorInfo"].reason == "INTERNAL"


async def test_a_bad_field_is_named(stub, servicer):
    error, details = await failure(stub, servicer, InvalidField("name", "required"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details["ErrorInfo"].domain == "ias"
    assert details["BadRequest"].field_violations[0].field == "name"


async def test_a_broken_dependency_says_when_to_come_back(stub, servicer):
    error, details = await failure(stub, servicer, Unavailable("metering", retry_after_s=2.5))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert details["RetryInfo"].retry_delay.ToMilliseconds() == 2500


async def test_a_lost_database_is_not_the_callers_fault(stub, servicer):
    error, details = await failure(stub, servicer, ConnectionRefusedError("10.0.0.7:5432"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "10.0.0.7" not in error.details()
    assert details["ErrorInfo"].reason == "DEPENDENCY_UNAVAILABLE"


async def test_a_quota_failure_names_its_subject(stub, servicer):
    refusal = ResourceExhausted(
        "no room", reason="INSUFFICIENT_QUOTA", metadata={"scope": "organization"}
    )
    error, details = await failure(stub, servicer, refusal)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details["QuotaFailure"].violations[0].subject == "organization"
