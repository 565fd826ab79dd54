"""Organisations, users, invitations, sessions, API keys, and the log of what caches must drop."""

from alembic import op

revision = "0001"
down_revision = None

UPGRADE = """
create table identity.organizations (
    id uuid primary key,
    name text not null unique,
    display_name text not null,
    status text not null check (status in ('active', 'suspended')),
    created_at timestamptz not null
);

create table identity.users (
    id uuid primary key,
    organization_id uuid references identity.organizations,
    email text not null,
    email_key text not null unique,
    role text not null check (role in ('system_admin', 'org_admin', 'org_user')),
    status text not null check (status in ('pending', 'active', 'suspended')),
    password_hash text,
    created_at timestamptz not null,
    check ((role = 'system_admin') = (organization_id is null)),
    check (status <> 'active' or password_hash is not null)
);
comment on column identity.users.email_key is
    'The address without regard to case (NFKC, case-folded); what makes it unique.';
create index users_of_organization on identity.users (organization_id, email_key);

create table identity.invitations (
    token_hash bytea primary key,
    user_id uuid not null references identity.users,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    accepted_at timestamptz
);
create index invitations_of_user on identity.invitations (user_id);

create table identity.sessions (
    id uuid primary key,
    user_id uuid not null references identity.users,
    created_at timestamptz not null,
    ended_at timestamptz
);
comment on table identity.sessions is 'A session is a family of refresh tokens.';
create index sessions_of_user on identity.sessions (user_id);

create table identity.refresh_tokens (
    token_hash bytea primary key,
    session_id uuid not null references identity.sessions on delete cascade,
    expires_at timestamptz not null,
    used_at timestamptz
);
comment on table identity.refresh_tokens is
    'Used ones stay, so that showing one again is noticed.';
create index refresh_tokens_of_session on identity.refresh_tokens (session_id);

create table identity.api_keys (
    id uuid primary key,
    lookup text not null unique,
    organization_id uuid not null references identity.organizations,
    user_id uuid not null references identity.users,
    name text not null,
    display text not null,
    secret_hash bytea not null,
    allowed_models text[] not null,
    allowed_cidrs text[] not null,
    created_at timestamptz not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    last_used_address text not null default ''
);
comment on column identity.api_keys.lookup is 'The 12 characters after ias_, which find the row.';
comment on column identity.api_keys.secret_hash is
    'HMAC-SHA256 of the whole key with the pepper, which no table holds.';
create index api_keys_newest on identity.api_keys (created_at desc, id);
create index api_keys_of_organization on identity.api_keys (organization_id, created_at desc, id);
create index api_keys_of_user on identity.api_keys (user_id, created_at desc, id);

create table identity.changes (
    sequence bigint generated always as identity primary key,
    kind text not null check (kind in ('api_key', 'session', 'user', 'organization')),
    id uuid not null,
    occurred_at timestamptz not null default clock_timestamp()
);
comment on table identity.changes is
    'What caches must drop. Read every second by each process; old rows are deleted.';
create index changes_newest on identity.changes (occurred_at);
"""


def upgrade() -> None:
    op.execute(UPGRADE)
