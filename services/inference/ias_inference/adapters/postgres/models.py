"""The registry of models in Postgres."""

from typing import Any

import asyncpg

from ias_inference.domain.models import Backend, EngineKind, Model
from ias_runtime import audit
from ias_runtime.caller import Caller
from ias_runtime.errors import AlreadyExists
from ias_runtime.postgres import Connection, Pool

_SELECT = """
select m.name, m.display_name, m.prompt_price_nanos, m.completion_price_nanos, m.context_length,
       m.max_output_tokens, m.enabled, m.create_time, m.update_time,
       b.engine, b.url, b.upstream_model, b.api_key
from inference.models m join inference.backends b on b.model_name = m.name and b.position = 0
"""


class PostgresModels:
    """A domain.models.ModelStore."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, caller: Caller, model: Model) -> Model:
        """Stores a new model. Raises AlreadyExists when the name is taken."""
        async with self._pool.acquire() as connection, connection.transaction():
            try:
                await connection.execute(
                    """insert into inference.models
                       (name, display_name, prompt_price_nanos, completion_price_nanos,
                        context_length, max_output_tokens, enabled)
                       values ($1, $2, $3, $4, $5, $6, $7)""",
                    model.name,
                    model.display_name,
                    model.prompt_price_nanos,
                    model.completion_price_nanos,
                    model.context_length,
                    model.max_output_tokens,
                    model.enabled,
                )
            except asyncpg.UniqueViolationError:
                raise AlreadyExists("model", model.name) from None
            backend = model.backend
            await connection.execute(
                "insert into inference.backends values ($1, 0, $2, $3, $4, $5)",
                model.name,
                backend.engine.value,
                backend.url,
                backend.upstream_model,
                backend.api_key,
            )
            stored = await _one(connection, model.name)
            assert stored is not None
            await _record(connection, caller, "model.create", None, stored)
            return stored

    async def get(self, name: str) -> Model | None:
        """The model; None when there is none of that name."""
        async with self._pool.acquire() as connection:
            return await _one(connection, name)

    async def page(self, after: str, size: int) -> list[Model]:
        """The models whose names follow `after`, `size` at most, in the order of the names."""
        rows = await self._pool.fetch(
            _SELECT + "where m.name > $1 order by m.name limit $2", after, size
        )
        return [_model(row) for row in rows]

    async def set_enabled(self, caller: Caller, name: str, enabled: bool) -> Model | None:
        """The model, changed if it was otherwise; None when there is none of that name."""
        async with self._pool.acquire() as connection, connection.transaction():
            before = await _one(connection, name, lock=True)
            if before is None or before.enabled == enabled:
                return before
            await connection.execute(
                "update inference.models set enabled = $2, update_time = now() where name = $1",
                name,
                enabled,
            )
            after = await _one(connection, name)
            assert after is not None
            action = "model.enable" if enabled else "model.disable"
            await _record(connection, caller, action, before, after)
            return after


async def load_all(connection: Connection) -> list[Model]:
    """The whole registry."""
    return [_model(row) for row in await connection.fetch(_SELECT)]


async def version(connection: Connection) -> int:
    """A number that every change of the registry raises."""
    found: int = await connection.fetchval("select version from inference.registry_version")
    return found


async def _one(connection: Connection, name: str, *, lock: bool = False) -> Model | None:
    if "\x00" in name:  # Postgres has no such text
        return None
    row = await connection.fetchrow(
        _SELECT + "where m.name = $1" + (" for update of m" if lock else ""), name
    )
    return _model(row) if row else None


async def _record(
    connection: Connection, caller: Caller, action: str, before: Model | None, after: Model
) -> None:
    await audit.record(
        connection,
        caller,
        action,
        "model",
        after.name,
        organization_id=None,
        before=before.snapshot() if before else None,
        after=after.snapshot(),
    )


def _model(row: Any) -> Model:
    return Model(
        name=row["name"],
        display_name=row["display_name"],
        backend=Backend(
            engine=EngineKind(row["engine"]),
            url=row["url"],
            upstream_model=row["upstream_model"],
            api_key=row["api_key"],
        ),
        prompt_price_nanos=row["prompt_price_nanos"],
        completion_price_nanos=row["completion_price_nanos"],
        context_length=row["context_length"],
        max_output_tokens=row["max_output_tokens"],
        enabled=row["enabled"],
        create_time=row["create_time"],
        update_time=row["update_time"],
    )
