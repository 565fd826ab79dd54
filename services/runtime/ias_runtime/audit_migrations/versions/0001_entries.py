"""Entries, chained per organisation, and the function that appends one."""

from alembic import op

revision = "0001"
down_revision = None

# Hash of entry n = SHA-256 over hash n−1 and the entry's fields, joined by the unit separator,
# which no field may hold unescaped (JSON escapes it; ids and names have no control characters).
UPGRADE = """
create table audit.chains (
    organization_id uuid primary key,
    sequence bigint not null,
    hash bytea not null
);
comment on table audit.chains is
    'The head of each log. The nil UUID stands for the log of the system itself.';

create table audit.entries (
    id uuid primary key default gen_random_uuid(),
    organization_id uuid not null,
    sequence bigint not null,
    occurred_at timestamptz not null,
    action text not null,
    resource_type text not null,
    resource_id text not null,
    actor_user_id uuid,
    actor_api_key_id uuid,
    actor_address text not null,
    request_id text not null,
    before jsonb,
    after jsonb,
    hash bytea not null,
    unique (organization_id, sequence)
);
create index entries_newest on audit.entries (occurred_at desc, id);
create index entries_of_organization on audit.entries (organization_id, occurred_at desc, id);

create function audit.entry_hash(previous bytea, entry audit.entries) returns bytea
language sql immutable as $$
    select sha256(previous || convert_to(concat_ws(E'\\x1f',
        entry.id::text, entry.organization_id::text, entry.sequence::text,
        (extract(epoch from entry.occurred_at) * 1000000)::bigint::text,
        entry.action, entry.resource_type, entry.resource_id,
        coalesce(entry.actor_user_id::text, '-'), coalesce(entry.actor_api_key_id::text, '-'),
        entry.actor_address, entry.request_id,
        coalesce(entry.before::text, '-'), coalesce(entry.after::text, '-')), 'UTF8'))
$$;

create function audit.append(
    organization uuid, action text, resource_type text, resource_id text,
    actor_user_id uuid, actor_api_key_id uuid, actor_address text, request_id text,
    before jsonb, after jsonb
) returns void language plpgsql as $$
declare
    log uuid := coalesce(organization, '00000000-0000-0000-0000-000000000000');
    head audit.chains;
    entry audit.entries;
begin
    insert into audit.chains values (log, 0, ''::bytea) on conflict do nothing;
    select * into head from audit.chains c where c.organization_id = log for update;
    entry := (gen_random_uuid(), log, head.sequence + 1, clock_timestamp(), action, resource_type,
              resource_id, actor_user_id, actor_api_key_id, actor_address, request_id,
              before, after, null);
    entry.hash := audit.entry_hash(head.hash, entry);
    insert into audit.entries select entry.*;
    update audit.chains c set sequence = entry.sequence, hash = entry.hash
        where c.organization_id = log;
end
$$;
"""


def upgrade() -> None:
    op.execute(UPGRADE)
