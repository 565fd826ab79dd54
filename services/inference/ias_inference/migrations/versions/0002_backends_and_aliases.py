"""Several backends to a model, aliases, defaults, and who may call it."""

from alembic import op

revision = "0002"
down_revision = "0001"

UPGRADE = """
alter table inference.models
    add column kind text not null default 'chat',
    add column default_max_output_tokens integer not null default 0
        check (default_max_output_tokens >= 0),
    add column default_parameters jsonb not null default '{}',
    add column organization_ids uuid[] not null default '{}',
    add column allow_chat_template_kwargs boolean not null default false;

alter table inference.backends
    add column weight integer not null default 1 check (weight > 0);

create table inference.aliases (
    alias text primary key collate "C",
    model_name text not null collate "C" references inference.models on delete cascade,
    position smallint not null
);
create index aliases_of_model on inference.aliases (model_name);
comment on table inference.aliases is
    'Further names. Whoever writes one checks, under a lock, that no model has it as its name.';
create trigger changed after insert or update or delete on inference.aliases
    for each statement execute function inference.registry_changed();

alter table inference.registry_version
    add column registry_id uuid not null default gen_random_uuid();
comment on column inference.registry_version.registry_id is
    'Tells this registry from one that was made anew, whose versions begin at 1 again.';
"""


def upgrade() -> None:
    op.execute(UPGRADE)
