"""A fresh database with inference's schema."""

import os
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from ias_inference import wiring
from ias_runtime import postgres


@pytest.fixture(scope="session")
async def inference_database() -> AsyncIterator[str]:
    """Its URL."""
    import asyncio

    server = os.environ["IAS_TEST_DATABASE_URL"]
    name = f"inference_{uuid.uuid4().hex[:8]}"
    connection = await asyncpg.connect(server)
    await connection.execute(f'create database "{name}"')
    url = server.rpartition("/")[0] + f"/{name}"
    await asyncio.to_thread(wiring.migrate_database, url)
    yield url
    await connection.execute(f'drop database "{name}" with (force)')
    await connection.close()


@pytest.fixture
async def pool(inference_database: str) -> AsyncIterator[postgres.Pool]:
    """A pool on it, with an empty registry."""
    async with postgres.pool(inference_database, application="test") as opened:
        await opened.execute("delete from inference.models")
        yield opened
