"""What metering's tests share: an adapter for each port over one database, and events."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from ias.metering.v1 import events_pb2

from ias_metering.adapters.postgres.budgets import PostgresBudgets
from ias_metering.adapters.postgres.events import PostgresEvents
from ias_metering.adapters.postgres.leases import PostgresLeases
from ias_metering.adapters.postgres.usage import PostgresUsage
from ias_metering.adapters.rabbitmq.batches import parse
from ias_metering.domain.budgets import BudgetChange, Scope, scopes_of
from ias_metering.domain.events import Received
from ias_metering.domain.leases import Subject
from ias_runtime import postgres
from ias_runtime.caller import SYSTEM

NOW = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Ledger:
    """The adapters over one database, with a few words of the tests' own."""

    pool: postgres.Pool
    budgets: PostgresBudgets
    leases: PostgresLeases
    events: PostgresEvents
    usage: PostgresUsage

    async def limit(self, scope: Scope, tokens: int | None, now: datetime = NOW) -> None:
        await self.budgets.update(SYSTEM, scope, BudgetChange(True, tokens), now)

    async def stand(self, scope: Scope, now: datetime = NOW) -> tuple[int, int]:
        """Spent and leased in the current period."""
        budget = await self.budgets.get(scope, now)
        return budget.spent, budget.leased

    async def settle(self, *events: events_pb2.UsageEvent) -> tuple[int, int, int]:
        """Settled, duplicates, quarantined."""
        done = await self.events.settle(received(*events), NOW)
        return done.settled, done.duplicates, done.quarantined


def new_subject(organization_id: str | None = None) -> Subject:
    return Subject(organization_id or str(uuid.uuid4()), str(uuid.uuid4()), str(uuid.uuid4()))


def scopes(subject: Subject) -> tuple[Scope, Scope, Scope]:
    return scopes_of(subject.organization_id, subject.user_id, subject.api_key_id)


def event(
    subject: Subject, tokens: int, *, lease_id: str = "", at: datetime = NOW, **fields: object
) -> events_pb2.UsageEvent:
    """A completed request that used so many tokens."""
    made = events_pb2.UsageEvent(
        event_id=str(uuid.uuid4()),
        organization_id=subject.organization_id,
        user_id=subject.user_id,
        api_key_id=subject.api_key_id,
        lease_id=lease_id,
        model="mock-gpt",
        operation="chat",
        status=events_pb2.USAGE_STATUS_COMPLETED,
        prompt_tokens=tokens // 2,
        completion_tokens=tokens - tokens // 2,
        request_id="r",
    )
    made.occurred_at.FromDatetime(at)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def received(*events: events_pb2.UsageEvent) -> list[Received]:
    """As parsed from the queue."""
    far = datetime(2040, 1, 1, tzinfo=UTC)
    return parse(events_pb2.UsageEventBatch(events=events).SerializeToString(), far)
