"""A fresh, migrated database for metering."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import asyncpg
import pytest
from metering_support import Ledger, new_subject

from ias_metering.__main__ import migrate
from ias_metering.adapters.postgres.budgets import PostgresBudgets
from ias_metering.adapters.postgres.events import PostgresEvents
from ias_metering.adapters.postgres.leases import PostgresLeases
from ias_metering.adapters.postgres.usage import PostgresUsage
from ias_metering.domain.leases import LeaseTimes, Subject
from ias_runtime import postgres


@pytest.fixture(scope="session")
def metering_url(database_url: str) -> Iterator[str]:
    """A database with metering's schema; it is gone afterwards."""
    with _database(database_url) as url:
        yield url


@pytest.fixture
def unswept_url(database_url: str) -> Iterator[str]:
    """A database that no service runs on: its sweeper goes by the real clock, and would end the
    leases of a test that goes by a clock of its own."""
    with _database(database_url) as url:
        yield url


@contextmanager
def _database(server_url: str) -> Iterator[str]:
    name = f"metering_{uuid.uuid4().hex[:12]}"
    asyncio.run(_on_server(server_url, f'create database "{name}"'))
    url = f"{server_url.rpartition('/')[0]}/{name}"
    migrate(url)
    yield url
    asyncio.run(_on_server(server_url, f'drop database "{name}" with (force)'))


async def _on_server(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(sql)
    await connection.close()


@pytest.fixture(scope="session")
async def pool(metering_url: str) -> AsyncIterator[postgres.Pool]:
    async with postgres.pool(metering_url, application="tests", max_size=20) as opened:
        yield opened


@pytest.fixture(scope="session")
def ledger(pool: postgres.Pool) -> Ledger:
    return Ledger(
        pool=pool,
        budgets=PostgresBudgets(pool),
        leases=PostgresLeases(pool, LeaseTimes()),
        events=PostgresEvents(pool),
        usage=PostgresUsage(pool),
    )


@pytest.fixture
def subject() -> Subject:
    """A key of an organisation that nobody else uses."""
    return new_subject()
