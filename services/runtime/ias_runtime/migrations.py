"""Runs a package's alembic migrations (SQL inside) in the package's own schema.

Each `migrations/env.py` is one line: `run()`. Migrations take a database-wide advisory lock, so
several replicas may start at once, and give up rather than queue behind traffic for locks.
"""

import asyncio
from pathlib import Path
from typing import Any

from alembic import command, context
from alembic.config import Config
from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

_LOCK = 0x1A5  # any fixed number: one migration at a time per database


def migrate(database_url: str, schema: str, folder: Path) -> None:
    """Brings `schema` up to the newest migration in `folder`. Does nothing when it is there."""
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.attributes["database_url"] = database_url
    config.attributes["schema"] = schema
    command.upgrade(config, "head")


def run() -> None:
    """Called by each env.py, within `migrate`."""
    asyncio.run(_run())


async def _run() -> None:
    url: str = context.config.attributes["database_url"]
    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://", 1).replace(
            "postgres://", "postgresql+asyncpg://", 1
        ),
        poolclass=NullPool,
    )
    event.listen(engine.sync_engine, "do_execute", _run_script)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade)
            await connection.commit()
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    schema: str = context.config.attributes["schema"]
    connection.execute(text(f"select pg_advisory_xact_lock({_LOCK})"))
    connection.execute(text("set local lock_timeout = '5s'"))
    connection.execute(text("set local statement_timeout = '300s'"))
    connection.execute(text(f'create schema if not exists "{schema}"'))
    context.configure(connection=connection, version_table_schema=schema)
    with context.begin_transaction():
        context.run_migrations()


def _run_script(_: Any, statement: str, parameters: Any, execution: Any) -> bool:
    """Runs several statements at once, which asyncpg can't when it prepares them (as it would)."""
    if parameters or ";" not in statement.strip().rstrip(";"):
        return False
    driver = execution.root_connection.connection.dbapi_connection
    driver.run_async(lambda connection: connection.execute(statement))
    return True
