"""Usage events: the facts that the ledger is charged by, and their sums."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ias_metering.domain.budgets import Scope, scopes_of

MAX_EVENTS = 500
"""Of one batch."""
STATUS_FAILED = 2
"""ias.metering.v1.USAGE_STATUS_FAILED: the engine failed."""


class UsageEvent(NamedTuple):
    """One request that reached an engine, checked. Ids are UUIDs in canonical form.

    A named tuple in the order of the columns of `usage_events`: batches are turned into columns.
    """

    event_id: str
    occurred_at: datetime
    organization_id: str
    user_id: str
    api_key_id: str
    lease_id: str | None
    model: str
    operation: str
    status: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_nanos: int
    time_to_first_token_us: int
    duration_us: int
    request_id: str
    streamed: bool

    @property
    def total_tokens(self) -> int:
        """What is taken out of budgets."""
        return self.prompt_tokens + self.completion_tokens


class Received(NamedTuple):
    """An event as it arrived."""

    event: UsageEvent
    digest: bytes
    """Of `body`: tells a second delivery from other content under the same id."""
    body: bytes
    """The serialized ias.metering.v1.UsageEvent."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a batch, in numbers of events."""

    settled: int
    duplicates: int
    quarantined: int


class RollupKey(NamedTuple):
    """What sums are kept by."""

    organization_id: str
    started_at: datetime
    user_id: str
    api_key_id: str
    model: str


@dataclass(slots=True)
class Sums:
    """What is kept by it."""

    requests: int = 0
    failed_requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_nanos: int = 0

    def add(self, other: "Sums") -> None:
        """Adds other sums to these."""
        self.requests += other.requests
        self.failed_requests += other.failed_requests
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.cached_tokens += other.cached_tokens
        self.cost_nanos += other.cost_nanos


@dataclass(slots=True)
class Charges:
    """A batch, summed up by what it changes, so that each row is written once."""

    leases: dict[tuple[str, str, str, str], int] = field(default_factory=lambda: defaultdict(int))
    """Tokens by lease, organisation, user and key: a lease only pays for its own subject."""
    hourly: dict[RollupKey, Sums] = field(default_factory=lambda: defaultdict(Sums))
    daily: dict[RollupKey, Sums] = field(default_factory=lambda: defaultdict(Sums))

    def spent(self) -> Iterable[tuple[Scope, datetime, int]]:
        """Scope, a moment of the day, tokens."""
        for key, sums in self.daily.items():
            tokens = sums.prompt_tokens + sums.completion_tokens
            for scope in scopes_of(key.organization_id, key.user_id, key.api_key_id):
                yield scope, key.started_at, tokens


def sum_up(events: Iterable[UsageEvent]) -> Charges:
    """The charges of a batch whose events are all new."""
    charges = Charges()
    hourly, leases = charges.hourly, charges.leases
    for event in events:
        hour = event.occurred_at.replace(minute=0, second=0, microsecond=0)
        _, _, organization_id, user_id, api_key_id, lease_id, model = event[:7]
        sums = hourly[RollupKey(organization_id, hour, user_id, api_key_id, model)]
        sums.requests += 1
        sums.failed_requests += event.status == STATUS_FAILED
        sums.prompt_tokens += event.prompt_tokens
        sums.completion_tokens += event.completion_tokens
        sums.cached_tokens += event.cached_tokens
        sums.cost_nanos += event.cost_nanos
        if lease_id is not None:
            leases[lease_id, organization_id, user_id, api_key_id] += event.total_tokens
    # A batch has few hours, so its days are summed from those.
    for key, sums in hourly.items():
        charges.daily[key._replace(started_at=key.started_at.replace(hour=0))].add(sums)
    return charges


def distinct(received: Sequence[Received]) -> tuple[list[Received], list[Received]]:
    """The first of each id, sorted by id; and those that repeat one within the same batch."""
    first: dict[str, Received] = {}
    repeated = [one for one in received if first.setdefault(one.event.event_id, one) is not one]
    return sorted(first.values(), key=lambda one: one.event.event_id), repeated
