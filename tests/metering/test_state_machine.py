"""Leases and events in any order, against a simple model: invariants A and B after each step."""

import asyncio
import random
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ias.metering.v1 import events_pb2
from metering_support import NOW, Ledger, event, new_subject, received, scopes

from ias_metering.adapters.postgres.budgets import PostgresBudgets
from ias_metering.adapters.postgres.events import PostgresEvents
from ias_metering.adapters.postgres.leases import PostgresLeases
from ias_metering.adapters.postgres.usage import PostgresUsage
from ias_metering.domain.budgets import BudgetChange, Scope
from ias_metering.domain.leases import Grant, LeaseTimes, Refusal, Subject
from ias_runtime import postgres
from ias_runtime.caller import SYSTEM
from ias_runtime.errors import NotFound

TIMES = LeaseTimes(
    ttl=timedelta(seconds=30), grace=timedelta(seconds=60), event_grace=timedelta(seconds=300)
)


@dataclass
class ModelLease:
    """What the model knows of a lease: whom it is for, and what it holds."""

    subject: Subject
    expire_at: datetime
    granted: int
    charged: int = 0
    returned: int = 0
    ended_at: datetime | None = None

    @property
    def outstanding(self) -> int:
        return self.granted - self.charged - self.returned


@dataclass
class Model:
    """The whole of metering in dictionaries."""

    limits: dict[Scope, int] = field(default_factory=dict)
    spent: dict[Scope, int] = field(default_factory=dict)
    leases: dict[str, ModelLease] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)

    def leased(self, scope: Scope) -> int:
        return sum(
            lease.outstanding for lease in self.leases.values() if scope in scopes(lease.subject)
        )

    def room(self, subject: Subject) -> int:
        rooms = [
            self.limits[scope] - self.spent.get(scope, 0) - self.leased(scope)
            for scope in scopes(subject)
            if scope in self.limits
        ]
        return max(0, min(rooms, default=10**9))

    def settle(self, arrived: events_pb2.UsageEvent, subject: Subject) -> None:
        if arrived.event_id in self.settled:
            return
        self.settled.add(arrived.event_id)
        tokens = arrived.prompt_tokens + arrived.completion_tokens
        for scope in scopes(subject):
            self.spent[scope] = self.spent.get(scope, 0) + tokens
        lease = self.leases.get(arrived.lease_id)
        if lease is not None:
            lease.charged += min(tokens, lease.outstanding)

    def sweep(self, now: datetime) -> None:
        for lease in self.leases.values():
            active = lease.ended_at is None
            if active and lease.expire_at < now - TIMES.grace:
                lease.ended_at = now
                lease.returned += lease.outstanding
            elif not active and lease.ended_at < now - TIMES.event_grace:  # type: ignore[operator]
                lease.returned += lease.outstanding


class Machine(RuleBasedStateMachine):
    """Two users with two keys each in one organisation."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.open = postgres.pool(self.url, application="state machine", max_size=4)
        pool = self.runner.run(self.open.__aenter__())
        self.ledger = Ledger(
            pool,
            PostgresBudgets(pool),
            PostgresLeases(pool, TIMES),
            PostgresEvents(pool),
            PostgresUsage(pool),
        )
        self.model = Model()
        self.now = NOW
        organization = str(uuid.uuid4())
        users = [new_subject(organization) for _ in range(2)]
        self.subjects = [
            Subject(organization, user.user_id, str(uuid.uuid4())) for user in users * 2
        ]
        self.sent: list[tuple[events_pb2.UsageEvent, Subject]] = []

    def teardown(self) -> None:
        self.runner.run(self.open.__aexit__(None, None, None))
        self.runner.close()

    @rule(who=st.integers(0, 3), level=st.integers(0, 2), tokens=st.integers(0, 300))
    def set_a_limit(self, who: int, level: int, tokens: int) -> None:
        scope = scopes(self.subjects[who])[level]
        # A limit below what is taken already may be set, but then B cannot hold.
        tokens += self.model.spent.get(scope, 0) + self.model.leased(scope)
        self.model.limits[scope] = tokens
        change = BudgetChange(True, tokens)
        self.runner.run(self.ledger.budgets.update(SYSTEM, scope, change, self.now))

    @rule(who=st.integers(0, 3), need=st.integers(1, 60), extra=st.integers(0, 100))
    def acquire(self, who: int, need: int, extra: int) -> None:
        subject, want = self.subjects[who], need + extra
        room = self.model.room(subject)
        outcome = self.runner.run(
            self.ledger.leases.acquire(subject, "machine", need, want, self.now)
        )
        if room < need:
            assert isinstance(outcome, Refusal)
            return
        assert isinstance(outcome, Grant)
        assert outcome.granted_tokens == min(want, room)
        assert outcome.scarce == (room < want)
        self.model.leases[outcome.lease_id] = ModelLease(
            subject, outcome.expire_at, outcome.granted_tokens
        )

    @precondition(lambda self: self.model.leases)
    @rule(data=st.data(), need=st.integers(0, 60), extra=st.integers(0, 60))
    def renew(self, data: st.DataObject, need: int, extra: int) -> None:
        lease_id, lease = self.one_lease(data)
        call = self.ledger.leases.renew(lease_id, need, need + extra, self.now)
        if lease.ended_at is not None:
            with pytest.raises(NotFound):
                self.runner.run(call)
            return
        room = self.model.room(lease.subject)
        renewal = self.runner.run(call)
        assert (renewal.refusal is not None) == (room < need)
        if renewal.refusal is None:
            lease.granted += min(need + extra, room)
        lease.expire_at = max(lease.expire_at, self.now + TIMES.ttl)
        assert renewal.grant.granted_tokens == lease.granted

    @precondition(lambda self: self.model.leases)
    @rule(data=st.data(), used=st.integers(0, 200))
    def release(self, data: st.DataObject, used: int) -> None:
        lease_id, lease = self.one_lease(data)
        returned = self.runner.run(self.ledger.leases.release(lease_id, used, self.now))
        if lease.ended_at is not None:
            assert returned == 0
            return
        lease.ended_at = self.now
        assert returned == max(0, lease.granted - max(used, lease.charged))
        lease.returned += returned

    @precondition(lambda self: self.model.leases)
    @rule(data=st.data(), share=st.integers(1, 100), soon=st.booleans())
    def use(self, data: st.DataObject, share: int, soon: bool) -> None:
        """A request ends; its event arrives at once or some time, any number of times."""
        lease_id, lease = self.one_lease(data)
        tokens = lease.granted * share // 100
        self.sent.append((event(lease.subject, tokens, lease_id=lease_id), lease.subject))
        if soon:
            self.settle([self.sent[-1]], random.Random(0), times=1)

    @precondition(lambda self: self.sent)
    @rule(seed=st.integers(0, 2**32), count=st.integers(1, 6), times=st.integers(1, 3))
    def deliver(self, seed: int, count: int, times: int) -> None:
        """Some of what was ever sent, shuffled, repeated, in overlapping batches at once."""
        chance = random.Random(seed)
        self.settle(chance.sample(self.sent, min(count, len(self.sent))), chance, times)

    def settle(
        self, chosen: list[tuple[events_pb2.UsageEvent, Subject]], chance: random.Random, times: int
    ) -> None:
        # Events of swept leases may go beyond a limit; the model only sees the sums.
        async def settle() -> None:
            batches = [chance.sample(chosen, len(chosen)) for _ in range(times)]
            await asyncio.gather(
                *(
                    self.ledger.events.settle(received(*(one for one, _ in batch)), self.now)
                    for batch in batches
                )
            )

        self.runner.run(settle())
        for one, subject in sorted(chosen, key=lambda pair: pair[0].event_id):
            self.model.settle(one, subject)

    @rule(seconds=st.integers(1, 120))
    def time_passes_and_leases_are_swept(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.runner.run(self.ledger.leases.sweep(self.now))
        self.model.sweep(self.now)

    @invariant()
    def the_ledger_is_what_the_model_says(self) -> None:
        for scope in {scope for subject in self.subjects for scope in scopes(subject)}:
            stand = self.runner.run(self.ledger.stand(scope, self.now))
            assert stand == (self.model.spent.get(scope, 0), self.model.leased(scope))

    @invariant()
    def a_every_token_that_was_settled_is_in_the_rollups_once(self) -> None:
        rolled_up = self.runner.run(
            self.ledger.pool.fetchval(
                "select coalesce(sum(prompt_tokens + completion_tokens), 0)::bigint"
                " from metering.usage_hourly where organization_id = $1",
                self.subjects[0].organization_id,
            )
        )
        settled = {one.event_id: one for one, _ in self.sent if one.event_id in self.model.settled}
        assert rolled_up == sum(e.prompt_tokens + e.completion_tokens for e in settled.values())

    @invariant()
    def b_nothing_is_granted_beyond_a_limit(self) -> None:
        for scope, limit in self.model.limits.items():
            leased = self.model.leased(scope)
            assert not leased or self.model.spent.get(scope, 0) + leased <= limit or self.late()

    def late(self) -> bool:
        """Whether events beyond their lease's grant were settled: the one way past a limit."""
        used: dict[str, int] = {}
        for one, _ in self.sent:
            if one.event_id in self.model.settled:
                tokens = one.prompt_tokens + one.completion_tokens
                used[one.lease_id] = used.get(one.lease_id, 0) + tokens
        return any(
            tokens > self.model.leases[lease_id].charged for lease_id, tokens in used.items()
        )

    def one_lease(self, data: st.DataObject) -> tuple[str, ModelLease]:
        number = data.draw(st.integers(0, len(self.model.leases) - 1))
        return list(self.model.leases.items())[number]


async def test_leases_and_events_in_any_order_keep_the_books_right(unswept_url: str) -> None:
    class OnThisDatabase(Machine):
        url = unswept_url

    machine = OnThisDatabase.TestCase
    machine.settings = settings(
        max_examples=20,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    # In a thread, since it runs event loops of its own.
    await asyncio.to_thread(machine("runTest").debug)
