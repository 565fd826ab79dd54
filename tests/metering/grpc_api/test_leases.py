"""QuotaService over a real channel, while RabbitMQ is away."""

import uuid

import grpc
import pytest
from ias.metering.v1 import budgets_pb2, budgets_pb2_grpc, leases_pb2_grpc
from ias.metering.v1 import leases_pb2 as pb2
from metering_callers import failure, inference, session

from ias_runtime.caller import Role


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> leases_pb2_grpc.QuotaServiceStub:
    return leases_pb2_grpc.QuotaServiceStub(channel)


@pytest.fixture
def subject() -> pb2.LeaseSubject:
    return pb2.LeaseSubject(
        organization_id=str(uuid.uuid4()),
        user_id=str(uuid.uuid4()),
        api_key_id=str(uuid.uuid4()),
    )


def asking(subject: pb2.LeaseSubject, need: int, want: int, holder: str = "h"):
    return pb2.AcquireLeaseRequest(
        subject=subject, holder=holder, need_tokens=need, want_tokens=want
    )


async def test_a_lease_from_its_grant_to_its_release(
    stub, channel: grpc.aio.Channel, subject: pb2.LeaseSubject
) -> None:
    await budgets_pb2_grpc.BudgetServiceStub(channel).UpdateBudget(
        budgets_pb2.UpdateBudgetRequest(budget=budgets_pb2.Budget(limit_tokens=100)),
        metadata=session(Role.ORG_ADMIN, subject.organization_id),
    )
    granted = (await stub.AcquireLease(asking(subject, 10, 60), metadata=inference())).lease
    assert (granted.granted_tokens, granted.scarce) == (60, False)
    assert (granted.budget.scope, granted.budget.remaining_tokens) == ("organization", 40)
    assert granted.period_end_time == granted.budget.reset_time
    more = await stub.RenewLease(
        pb2.RenewLeaseRequest(lease_id=granted.lease_id, need_tokens=1, want_tokens=500),
        metadata=inference(),
    )
    assert (more.lease.granted_tokens, more.lease.scarce) == (100, True)
    assert not more.HasField("refusal")
    full = await stub.AcquireLease(asking(subject, 1, 1), metadata=inference())
    assert (full.refusal.scope, full.refusal.may_free_up) == ("organization", True)
    released = await stub.ReleaseLease(
        pb2.ReleaseLeaseRequest(lease_id=granted.lease_id, used_tokens=30), metadata=inference()
    )
    assert released.returned_tokens == 70
    code, info = await failure(
        stub.RenewLease(pb2.RenewLeaseRequest(lease_id=granted.lease_id), metadata=inference())
    )
    assert (code, info.metadata["resource"]) == (grpc.StatusCode.NOT_FOUND, "lease")


async def test_releasing_what_never_was_changes_nothing_and_succeeds(stub) -> None:
    unknown = pb2.ReleaseLeaseRequest(lease_id=str(uuid.uuid4()), used_tokens=5)
    assert (await stub.ReleaseLease(unknown, metadata=inference())).returned_tokens == 0


@pytest.mark.parametrize(
    ("need", "want", "holder", "field"),
    [
        (0, 1, "h", "need_tokens"),
        (-5, 1, "h", "need_tokens"),
        (5, 4, "h", "want_tokens"),
        (1, 2**62, "h", "want_tokens"),
        (1, 1, "", "holder"),
    ],
)
async def test_a_bad_field_is_named(
    stub, subject: pb2.LeaseSubject, need: int, want: int, holder: str, field: str
) -> None:
    code, info = await failure(
        stub.AcquireLease(asking(subject, need, want, holder), metadata=inference())
    )
    assert (code, info.metadata["field"]) == (grpc.StatusCode.INVALID_ARGUMENT, field)


async def test_a_subject_is_whole(stub, subject: pb2.LeaseSubject) -> None:
    subject.user_id = ""
    _, info = await failure(stub.AcquireLease(asking(subject, 1, 1), metadata=inference()))
    assert info.metadata["field"] == "subject.user_id"
