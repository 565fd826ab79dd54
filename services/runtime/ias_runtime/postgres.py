"""The Postgres pool, and what its failures mean to a caller."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]
    Pool = asyncpg.Pool[Any]
else:  # asyncpg's classes take parameters in its stubs only
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    ConnectionError,
    OSError,
    TimeoutError,
)
"""Failures that mean "the database, not the request": answered UNAVAILABLE, retryable."""

RETRYABLE = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""Failures after which the same transaction, begun anew, may succeed."""


@asynccontextmanager
async def pool(database_url: str, *, application: str, max_size: int = 10) -> AsyncIterator[Pool]:
    """A pool whose statements end after 10 s and whose waits for locks after 5 s."""
    opened = await asyncpg.create_pool(
        database_url,
        min_size=1,
        max_size=max_size,
        timeout=5,
        command_timeout=15,
        init=_initialise,
        server_settings={
            "application_name": application,
            "statement_timeout": "10000",
            "lock_timeout": "5000",
            "idle_in_transaction_session_timeout": "30000",
            "timezone": "UTC",
            # Small, indexed statements: compiling them costs more than running them.
            "jit": "off",
        },
    )
    try:
        yield opened
    finally:
        opened.terminate()


async def _initialise(connection: Connection) -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(
            kind, schema="pg_catalog", encoder=json.dumps, decoder=json.loads
        )
