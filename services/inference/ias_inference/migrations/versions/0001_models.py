"""The registry of models, and the version that every change raises."""

from alembic import op

revision = "0001"
down_revision = None

UPGRADE = """
create table inference.models (
    name text primary key collate "C",
    display_name text not null,
    prompt_price_nanos bigint not null check (prompt_price_nanos >= 0),
    completion_price_nanos bigint not null check (completion_price_nanos >= 0),
    context_length integer not null check (context_length >= 0),
    max_output_tokens integer not null check (max_output_tokens > 0),
    enabled boolean not null,
    create_time timestamptz not null default now(),
    update_time timestamptz not null default now()
);

create table inference.backends (
    model_name text not null collate "C" references inference.models on delete cascade,
    position smallint not null,
    engine text not null,
    url text not null,
    upstream_model text not null,
    api_key text not null,
    primary key (model_name, position)
);
comment on column inference.backends.api_key is 'A secret: never shown, never audited.';

create table inference.registry_version (
    single_row boolean primary key default true check (single_row),
    version bigint not null
);
insert into inference.registry_version values (true, 1);

create function inference.registry_changed() returns trigger language plpgsql as $$
begin
    update inference.registry_version set version = version + 1;
    perform pg_notify('inference_models', '');
    return null;
end
$$;
create trigger changed after insert or update or delete on inference.models
    for each statement execute function inference.registry_changed();
create trigger changed after insert or update or delete on inference.backends
    for each statement execute function inference.registry_changed();
"""


def upgrade() -> None:
    op.execute(UPGRADE)
