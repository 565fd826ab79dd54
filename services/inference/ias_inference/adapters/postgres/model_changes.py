"""Keeps the registry in memory fresh: LISTEN on a connection of its own, and a poll beside it.

A notification makes a change known at once; the poll of the version, each second on the same
connection, notices what was missed and a connection that died without a word. While Postgres is
down, the registry stays as it was.
"""

import asyncio
from types import TracebackType
from typing import Self

import asyncpg
import structlog

from ias_inference.adapters.postgres import models
from ias_inference.domain.models import Registry
from ias_runtime.postgres import UNAVAILABLE

log = structlog.get_logger()

POLL_S = 1.0
_TIMEOUT_S = 5.0


class ModelChanges:
    """Fills `registry` when entered, and keeps it fresh until left."""

    def __init__(self, database_url: str, registry: Registry) -> None:
        self._url = database_url
        self._registry = registry
        self._version = ("", -1)
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        connection = await self._connect()
        await self._refresh(connection)
        self._task = asyncio.create_task(self._watch(connection), name="model changes")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _watch(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        while True:
            try:
                try:
                    await self._follow(connection)
                finally:
                    connection.terminate()
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                log.warning("registry not refreshed", cause=repr(error))
            connection = await self._reconnect()

    async def _follow(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        while True:
            self._changed.clear()
            await self._refresh(connection)
            try:
                async with asyncio.timeout(POLL_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _refresh(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        # Read before the rows: a change in between is then loaded again, never missed.
        version = await models.version(connection)
        if version != self._version:
            loaded = await models.load_all(connection)
            self._registry.replace(loaded, identifier=version[0], version=version[1])
            self._version = version

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        connection = await asyncpg.connect(
            self._url,
            timeout=_TIMEOUT_S,
            command_timeout=_TIMEOUT_S,
            server_settings={"application_name": "ias-inference-registry"},
        )
        await connection.add_listener("inference_models", lambda *_: self._changed.set())
        return connection

    async def _reconnect(self) -> "asyncpg.Connection[asyncpg.Record]":
        while True:
            await asyncio.sleep(POLL_S)
            try:
                return await self._connect()
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                log.warning("registry not refreshed", cause=repr(error))
