"""BudgetService over a real channel."""

import uuid

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from ias.metering.v1 import budgets_pb2 as pb2
from ias.metering.v1 import budgets_pb2_grpc
from metering_callers import failure, session

from ias_runtime.caller import Role


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> budgets_pb2_grpc.BudgetServiceStub:
    return budgets_pb2_grpc.BudgetServiceStub(channel)


@pytest.fixture
def organization_id() -> str:
    return str(uuid.uuid4())


def setting(*paths: str, **budget: object) -> pb2.UpdateBudgetRequest:
    return pb2.UpdateBudgetRequest(
        budget=pb2.Budget(**budget),  # type: ignore[arg-type]
        update_mask=FieldMask(paths=paths),
    )


async def test_only_what_the_mask_names_is_set(stub, organization_id: str) -> None:
    admin = session(Role.ORG_ADMIN, organization_id)
    set_both = await stub.UpdateBudget(setting(limit_tokens=100, reset_day=7), metadata=admin)
    assert (set_both.budget.limit_tokens, set_both.budget.reset_day) == (100, 7)
    assert set_both.budget.remaining_tokens == 100
    day_alone = await stub.UpdateBudget(
        setting("reset_day", limit_tokens=5, reset_day=9), metadata=admin
    )
    assert (day_alone.budget.limit_tokens, day_alone.budget.reset_day) == (100, 9)
    unlimited = await stub.UpdateBudget(setting("limit_tokens"), metadata=admin)
    assert not unlimited.budget.HasField("limit_tokens")
    assert not unlimited.budget.HasField("remaining_tokens")
    assert unlimited.budget.reset_day == 9


async def test_a_user_is_found_in_the_callers_organisation_alone(
    stub, organization_id: str
) -> None:
    user = pb2.BudgetScope(user_id=str(uuid.uuid4()))
    admin = session(Role.ORG_ADMIN, organization_id)
    await stub.UpdateBudget(setting(scope=user, limit_tokens=0), metadata=admin)
    shown = await stub.GetBudget(pb2.GetBudgetRequest(scope=user), metadata=admin)
    assert shown.budget.scope.organization_id == organization_id
    assert shown.budget.limit_tokens == 0
    stranger = session(Role.ORG_USER, str(uuid.uuid4()))
    elsewhere = await stub.GetBudget(pb2.GetBudgetRequest(scope=user), metadata=stranger)
    assert not elsewhere.budget.HasField("limit_tokens")


async def test_a_system_admin_says_which_organisation(stub, organization_id: str) -> None:
    root = session(Role.SYSTEM_ADMIN)
    user = str(uuid.uuid4())
    request = pb2.GetBudgetRequest(scope=pb2.BudgetScope(user_id=user))
    code, info = await failure(stub.GetBudget(request, metadata=root))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert info.metadata["field"] == "scope.organization_id"
    request.scope.organization_id = organization_id
    assert (await stub.GetBudget(request, metadata=root)).budget.scope.user_id == user


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (setting(limit_tokens=-1), "budget.limit_tokens"),
        (setting(limit_tokens=10**15 + 1), "budget.limit_tokens"),
        (setting(reset_day=29), "budget.reset_day"),
        (setting(reset_day=-1), "budget.reset_day"),
        (setting("spent_tokens", spent_tokens=0), "update_mask"),
        (setting("limit_tokens", "no such field"), "update_mask"),
        (setting(scope=pb2.BudgetScope(user_id="x")), "budget.scope.user_id"),
        (
            setting(scope=pb2.BudgetScope(organization_id="' or 1=1")),
            "budget.scope.organization_id",
        ),
    ],
)
async def test_a_bad_field_is_named(stub, request_: pb2.UpdateBudgetRequest, field: str) -> None:
    admin = session(Role.ORG_ADMIN, str(uuid.uuid4()))
    code, info = await failure(stub.UpdateBudget(request_, metadata=admin))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert (info.reason, info.metadata["field"]) == ("INVALID_FIELD", field)
