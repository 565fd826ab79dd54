"""Budgets and their periods, leases, usage events, rollups."""

from alembic import op

revision = "0001"
down_revision = None

BUDGETS = """
create table metering.budgets (
    organization_id uuid not null,
    scope_kind text not null check (scope_kind in ('organization', 'user', 'api_key')),
    scope_id uuid not null,
    limit_tokens bigint check (limit_tokens between 0 and 1000000000000000),
    reset_day smallint not null default 1 check (reset_day between 1 and 28),
    updated_at timestamptz not null default now(),
    primary key (organization_id, scope_kind, scope_id)
);
comment on table metering.budgets is
    'What was set. A scope without a row is unlimited and resets on day 1.';

create table metering.budget_periods (
    organization_id uuid not null,
    scope_kind text not null check (scope_kind in ('organization', 'user', 'api_key')),
    scope_id uuid not null,
    period_start timestamptz not null,
    period_end timestamptz not null check (period_end > period_start),
    limit_tokens bigint,
    spent bigint not null default 0 check (spent >= 0),
    leased bigint not null default 0 check (leased >= 0),
    primary key (organization_id, scope_kind, scope_id, period_start)
) with (fillfactor = 50);
comment on table metering.budget_periods is
    'The ledger. spent = what the rollups show between the bounds; leased = what leases hold.';
"""

LEASES = """
create table metering.leases (
    lease_id uuid primary key,
    organization_id uuid not null,
    user_id uuid not null,
    api_key_id uuid not null,
    holder text not null,
    state text not null default 'active' check (state in ('active', 'released', 'expired')),
    granted bigint not null check (granted >= 0),
    charged bigint not null default 0 check (charged >= 0),
    returned bigint not null default 0 check (returned >= 0),
    acquired_at timestamptz not null,
    expire_at timestamptz not null,
    ended_at timestamptz,
    organization_period timestamptz not null,
    user_period timestamptz not null,
    api_key_period timestamptz not null,
    check (charged + returned <= granted)
) with (fillfactor = 70);
comment on table metering.leases is
    'Outstanding = granted - charged - returned. The *_period columns are the starts of the '
    'budget periods that the tokens were taken from.';
create index leases_expiring on metering.leases (expire_at) where state = 'active';
create index leases_ended on metering.leases (ended_at) where state <> 'active';
create index leases_of_organization on metering.leases (organization_id)
    where state = 'active' or charged + returned < granted;
"""

EVENTS = """
create table metering.usage_event_ids (
    event_id uuid primary key,
    digest bytea not null
);
comment on table metering.usage_event_ids is
    'What was settled. The unique index of the events must hold their time, so it cannot tell '
    'that an id came again with another time; this one can.';

create table metering.usage_events (
    event_id uuid not null,
    occurred_at timestamptz not null,
    received_at timestamptz not null default now(),
    organization_id uuid not null,
    user_id uuid not null,
    api_key_id uuid not null,
    lease_id uuid,
    model text not null,
    operation text not null,
    status smallint not null,
    prompt_tokens bigint not null,
    completion_tokens bigint not null,
    cached_tokens bigint not null,
    cost_nanos bigint not null,
    time_to_first_token_us bigint not null,
    duration_us bigint not null,
    request_id text not null,
    streamed boolean not null,
    unique (event_id, occurred_at)
) %(partitioning)s;

create table metering.usage_quarantine (
    event_id uuid not null,
    digest bytea not null,
    event bytea not null,
    received_at timestamptz not null default now(),
    primary key (event_id, digest)
);
comment on table metering.usage_quarantine is
    'Events whose id was settled with other content; `event` is an ias.metering.v1.UsageEvent.';
"""

HYPERTABLE = """
create extension if not exists timescaledb;
select create_hypertable('metering.usage_events', 'occurred_at',
                         chunk_time_interval => interval '7 days');
create function metering.ensure_partitions(around timestamptz) returns void
language sql as 'select null::void';
"""

PARTITIONS = """
create table metering.usage_events_default partition of metering.usage_events default;
comment on table metering.usage_events_default is
    'Whatever falls outside the months made ahead, so that nothing is ever lost.';

create function metering.ensure_partitions(around timestamptz) returns void
language plpgsql as $$
declare
    month timestamp;
    name text;
begin
    -- Replicas call this at the same time.
    perform pg_advisory_xact_lock(hashtext('metering.ensure_partitions'));
    for n in -1 .. 3 loop
        month := date_trunc('month', around at time zone 'UTC') + make_interval(months => n);
        name := 'usage_events_' || to_char(month, 'YYYYMM');
        if to_regclass('metering.' || name) is null and not exists (
            select from metering.usage_events_default
            where occurred_at >= month at time zone 'UTC'
              and occurred_at < (month + interval '1 month') at time zone 'UTC'
        ) then
            execute format(
                'create table metering.%I partition of metering.usage_events '
                'for values from (%L) to (%L)', name,
                month at time zone 'UTC', (month + interval '1 month') at time zone 'UTC');
        end if;
    end loop;
end
$$;
"""

ROLLUP = """
create table metering.usage_%(name)s (
    organization_id uuid not null,
    %(moment)s not null,
    user_id uuid not null,
    api_key_id uuid not null,
    model text not null,
    requests bigint not null,
    failed_requests bigint not null,
    prompt_tokens bigint not null,
    completion_tokens bigint not null,
    cached_tokens bigint not null,
    cost_nanos bigint not null,
    primary key (organization_id, started_at, user_id, api_key_id, model)
) with (fillfactor = 70);
create index usage_%(name)s_started on metering.usage_%(name)s (started_at);
"""


def upgrade() -> None:
    op.execute(BUDGETS)
    op.execute(LEASES)
    timescale = bool(
        op.get_bind()
        .exec_driver_sql("select count(*) from pg_available_extensions where name = 'timescaledb'")
        .scalar()
    )
    partitioning = "" if timescale else "partition by range (occurred_at)"
    op.execute(EVENTS % {"partitioning": partitioning})
    op.execute(HYPERTABLE if timescale else PARTITIONS)
    op.execute("select metering.ensure_partitions(now())")
    for name in ("hourly", "daily"):
        op.execute(ROLLUP % {"name": name, "moment": "started_at timestamptz"})
