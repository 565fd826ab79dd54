"""UsageService over a real channel."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from ias.metering.v1 import usage_pb2 as pb2
from ias.metering.v1 import usage_pb2_grpc
from metering_callers import failure, session
from metering_support import Ledger, event, new_subject

from ias_metering.domain.leases import Subject
from ias_runtime.caller import Role


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> usage_pb2_grpc.UsageServiceStub:
    return usage_pb2_grpc.UsageServiceStub(channel)


def stamp(moment: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def asking(**fields: object) -> pb2.QueryUsageRequest:
    return pb2.QueryUsageRequest(**fields)  # type: ignore[arg-type]


async def test_everyone_sees_their_own_organisation_and_a_system_admin_any(
    stub, ledger: Ledger, subject: Subject
) -> None:
    await ledger.settle(event(subject, 11, at=datetime.now(UTC)))
    for caller, organization in (
        (session(Role.ORG_USER, subject.organization_id), ""),
        (session(Role.ORG_ADMIN, subject.organization_id), subject.organization_id),
        (session(Role.SYSTEM_ADMIN), subject.organization_id),
    ):
        answer = await stub.QueryUsage(asking(organization_id=organization), metadata=caller)
        assert [row.total_tokens for row in answer.rows] == [11]
    every = await stub.QueryUsage(
        asking(group_by=[pb2.USAGE_DIMENSION_ORGANIZATION], page_size=10_000),
        metadata=session(Role.SYSTEM_ADMIN),
    )
    assert subject.organization_id in [row.organization_id for row in every.rows]
    stranger = session(Role.ORG_USER, new_subject().organization_id)
    assert not (await stub.QueryUsage(asking(), metadata=stranger)).rows


async def test_rows_are_grouped_and_paged(stub, ledger: Ledger, subject: Subject) -> None:
    now = datetime.now(UTC).replace(hour=12)
    for days in range(1, 6):
        await ledger.settle(event(subject, days, at=now - timedelta(days=days)))
    caller = session(Role.ORG_USER, subject.organization_id)
    request = asking(group_by=[pb2.USAGE_DIMENSION_KEY, pb2.USAGE_DIMENSION_DAY], page_size=2)
    rows: list[pb2.UsageRow] = []
    sizes = []
    while True:
        page = await stub.QueryUsage(request, metadata=caller)
        rows += page.rows
        sizes.append(len(page.rows))
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert sizes == [2, 2, 1]
    assert [row.total_tokens for row in rows] == [5, 4, 3, 2, 1]
    assert {row.api_key_id for row in rows} == {subject.api_key_id}
    assert rows[0].day.ToDatetime(UTC) == (now - timedelta(days=5)).replace(
        hour=0, minute=0, second=0, microsecond=0
    )


async def test_hours_are_rounded_outwards(stub, ledger: Ledger, subject: Subject) -> None:
    at = datetime(2026, 11, 20, 10, 59, 59, tzinfo=UTC)
    await ledger.settle(event(subject, 7, at=at))
    caller = session(Role.ORG_USER, subject.organization_id)
    for first, last, seen in (
        (at, at + timedelta(microseconds=1), True),
        (at - timedelta(minutes=1), at - timedelta(seconds=30), True),
        (at + timedelta(seconds=1), at + timedelta(hours=1), False),
        (at - timedelta(hours=2), at.replace(minute=0, second=0), False),
    ):
        request = asking(to=stamp(last), **{"from": stamp(first)})
        answer = await stub.QueryUsage(request, metadata=caller)
        assert bool(answer.rows) == seen


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"group_by": [99]}, "group_by"),
        ({"group_by": [0]}, "group_by"),
        ({"page_size": -1}, "page_size"),
        ({"page_token": "nonsense"}, "page_token"),
        ({"page_token": "WzFd"}, "page_token"),
        ({"user_id": "x"}, "user_id"),
        ({"from": Timestamp(seconds=0)}, "from"),
        ({"from": Timestamp(seconds=2 * 10**9), "to": Timestamp(seconds=10**9)}, "from"),
        ({"from": Timestamp(seconds=10**14)}, "from"),
    ],
)
async def test_a_bad_field_is_named(stub, fields: dict[str, object], field: str) -> None:
    caller = session(Role.ORG_USER, new_subject().organization_id)
    code, info = await failure(stub.QueryUsage(asking(**fields), metadata=caller))
    assert (code, info.metadata["field"]) == (grpc.StatusCode.INVALID_ARGUMENT, field)
