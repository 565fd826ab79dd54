"""Identity as a whole: real Postgres, real Redis, a real gRPC channel."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import redis.asyncio as redis
from identity_support import (
    Check,
    Identity,
    Refusal,
    Tenant,
    check_of,
    fresh_database,
    make_settings,
    refusal_of,
    running,
)


@pytest.fixture(scope="session")
async def identity() -> AsyncIterator[Identity]:
    """Identity with a real Postgres and a real Redis."""
    async with fresh_database() as url:
        redis_url = os.environ["IAS_TEST_REDIS_URL"]
        async with redis.Redis.from_url(redis_url) as client:
            for name in [name async for name in client.scan_iter("ias:identity:*")]:
                await client.delete(name)
        async with running(make_settings(url, redis_url)) as served:
            yield served


@pytest.fixture(scope="session")
async def tenant(identity: Identity) -> Tenant:
    """An organisation that tests share."""
    return await identity.new_tenant()


@pytest.fixture(scope="session")
def refused() -> Callable[[Awaitable[object]], Awaitable[Refusal]]:
    """Awaits a call that must fail, and says how it did."""
    return refusal_of


@pytest.fixture(scope="session")
def check(identity: Identity) -> Check:
    """Asks the shared identity's Check."""
    return check_of(identity)


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], Awaitable[object]], object], Awaitable[None]]:
    """Returns once asking gives what is expected; fails after the 2 s that a change may take."""

    async def wait(ask: Callable[[], Awaitable[object]], expected: object) -> None:
        found = None
        try:
            async with asyncio.timeout(2):
                while (found := await ask()) != expected:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{found!r} for 2 s, expected {expected!r}") from None

    return wait
