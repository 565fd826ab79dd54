"""The registry of models in Postgres."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import asyncpg

from ias_inference.domain.models import Backend, EngineKind, Model, ModelKind
from ias_runtime import audit
from ias_runtime.caller import Caller
from ias_runtime.errors import AlreadyExists
from ias_runtime.postgres import Connection, Pool

_COLUMNS = (
    "name",
    "display_name",
    "kind",
    "prompt_price_nanos",
    "completion_price_nanos",
    "context_length",
    "max_output_tokens",
    "default_max_output_tokens",
    "default_parameters",
    "organization_ids",
    "allow_chat_template_kwargs",
    "enabled",
)
# As text, so that it reads alike on connections with and without a codec for JSON.
_SELECT = f"""
select {", ".join(f"m.{column}" for column in _COLUMNS)}, m.create_time, m.update_time,
       m.default_parameters::text as parameters,
       array(select a.alias from inference.aliases a
             where a.model_name = m.name order by a.position) as aliases,
       (select json_agg(json_build_array(b.engine, b.url, b.upstream_model, b.api_key, b.weight)
                        order by b.position)
        from inference.backends b where b.model_name = m.name)::text as backends
from inference.models m
"""  # noqa: S608
_NAMED = """
where m.name = coalesce((select a.model_name from inference.aliases a where a.alias = $1), $1)
"""
_INSERT = f"""
insert into inference.models ({", ".join(_COLUMNS)})
values ({", ".join(f"${number}" for number, _ in enumerate(_COLUMNS, 1))})
"""  # noqa: S608
_UPDATE = f"""
update inference.models set update_time = now(),
       {", ".join(f"{column} = ${number}" for number, column in enumerate(_COLUMNS, 1))}
where name = $1
"""  # noqa: S608
_LOCK_NAMES = "select pg_advisory_xact_lock(hashtext('inference.models'))"
"""Writers of names and aliases go one after the other: no constraint spans both tables."""


class PostgresModels:
    """A domain.model_management.ModelStore."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, caller: Caller, model: Model) -> Model:
        """Stores a new model. Raises AlreadyExists when its name or an alias is taken."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_LOCK_NAMES)
            await _require_free(connection, model.names)
            await connection.execute(_INSERT, *_values(model))
            await _insert_parts(connection, model)
            stored = await _one(connection, model.name)
            assert stored is not None
            await _record(connection, caller, "model.create", None, stored)
            return stored

    async def get(self, name: str) -> Model | None:
        """The model; None when there is none of that name or alias."""
        async with self._pool.acquire() as connection:
            return await _one(connection, name)

    async def page(self, after: str, size: int) -> list[Model]:
        """The models whose names follow `after`, `size` at most, in the order of the names."""
        rows = await self._pool.fetch(
            _SELECT + "where m.name > $1 order by m.name limit $2", after, size
        )
        return [_model(row) for row in rows]

    async def update(
        self, caller: Caller, name: str, action: str, change: Callable[[Model], Model]
    ) -> Model | None:
        """Stores what `change` makes of the model; None when there is none of that name."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_LOCK_NAMES)
            before = await _one(connection, name)
            if before is None:
                return None
            after = change(before)
            if after == before:
                return before
            await _require_free(connection, after.aliases, besides=before.name)
            await connection.execute(_UPDATE, *_values(after))
            if (after.aliases, after.backends) != (before.aliases, before.backends):
                await _delete_parts(connection, before.name)
                await _insert_parts(connection, after)
            stored = await _one(connection, before.name)
            assert stored is not None
            await _record(connection, caller, action, before, stored)
            return stored

    async def delete(self, caller: Caller, name: str) -> bool:
        """Removes the model; False when there is none of that name."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_LOCK_NAMES)
            before = await _one(connection, name)
            if before is None:
                return False
            await connection.execute("delete from inference.models where name = $1", before.name)
            await _record(connection, caller, "model.delete", before, None)
            return True


async def load_all(connection: Connection) -> list[Model]:
    """The whole registry."""
    return [_model(row) for row in await connection.fetch(_SELECT)]


async def version(connection: Connection) -> tuple[str, int]:
    """Which registry this is, and a number that every change of it raises."""
    row = await connection.fetchrow("select registry_id, version from inference.registry_version")
    assert row is not None
    return str(row["registry_id"]), row["version"]


async def _one(connection: Connection, name: str) -> Model | None:
    if "\x00" in name:  # Postgres has no such text
        return None
    row = await connection.fetchrow(_SELECT + _NAMED, name)
    return _model(row) if row else None


async def _require_free(
    connection: Connection, names: tuple[str, ...], *, besides: str = ""
) -> None:
    """Raises AlreadyExists for a name that another model than `besides` answers to."""
    taken = await connection.fetchval(
        """select name from inference.models where name = any($1) and name <> $2
           union all
           select alias from inference.aliases where alias = any($1) and model_name <> $2
           limit 1""",
        list(names),
        besides,
    )
    if taken is not None:
        raise AlreadyExists("model", taken)


async def _insert_parts(connection: Connection, model: Model) -> None:
    await connection.executemany(
        """insert into inference.backends
           (model_name, position, engine, url, upstream_model, api_key, weight)
           values ($1, $2, $3, $4, $5, $6, $7)""",
        [
            (model.name, position, one.engine.value, one.url, one.upstream_model, one.api_key,
             one.weight)
            for position, one in enumerate(model.backends)
        ],
    )  # fmt: skip
    await connection.executemany(
        "insert into inference.aliases (alias, model_name, position) values ($1, $2, $3)",
        [(alias, model.name, position) for position, alias in enumerate(model.aliases)],
    )


async def _delete_parts(connection: Connection, name: str) -> None:
    await connection.execute("delete from inference.backends where model_name = $1", name)
    await connection.execute("delete from inference.aliases where model_name = $1", name)


async def _record(
    connection: Connection, caller: Caller, action: str, before: Model | None, after: Model | None
) -> None:
    subject = after or before
    assert subject is not None
    await audit.record(
        connection,
        caller,
        action,
        "model",
        subject.name,
        organization_id=None,
        before=before.snapshot() if before else None,
        after=after.snapshot() if after else None,
    )


def _values(model: Model) -> list[Any]:
    """In the order of _COLUMNS."""
    plain = replace(model, default_parameters=dict(model.default_parameters))
    return [getattr(plain, column) for column in _COLUMNS]


def _model(row: asyncpg.Record) -> Model:
    facts = {column: row[column] for column in _COLUMNS}
    facts["kind"] = ModelKind(row["kind"])
    facts["organization_ids"] = tuple(map(str, row["organization_ids"]))
    facts["default_parameters"] = json.loads(row["parameters"])
    return Model(
        **facts,
        backends=tuple(
            Backend(EngineKind(engine), url, upstream_model, api_key, weight)
            for engine, url, upstream_model, api_key, weight in json.loads(row["backends"])
        ),
        aliases=tuple(row["aliases"]),
        create_time=row["create_time"],
        update_time=row["update_time"],
    )
