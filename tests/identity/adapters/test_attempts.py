"""The slowing of logins: the same rule in Redis and in the process alone."""

import asyncio
import os
import uuid

import pytest
import redis.asyncio as redis

from ias_identity.adapters.redis.attempts import LocalLoginAttempts, RedisLoginAttempts
from ias_identity.adapters.redis.breaker import Breaker, connect


@pytest.fixture(params=["redis", "local", "redis that is gone"])
async def attempts(request):
    if request.param == "local":
        yield LocalLoginAttempts()
        return
    gone = request.param != "redis"
    url = "redis://127.0.0.1:1/0" if gone else os.environ["IAS_TEST_REDIS_URL"]
    client: redis.Redis = connect(url)
    yield RedisLoginAttempts(client, Breaker())
    await client.aclose()


def someone():
    return uuid.uuid4().hex, uuid.uuid4().hex


async def test_five_failures_are_free_and_each_further_one_doubles_the_wait(attempts):
    account, address = someone()
    for _ in range(5):
        assert await attempts.begin(account, address) == 0
    assert 0 < await attempts.begin(account, address) <= 1
    await asyncio.sleep(1.05)
    assert await attempts.begin(account, address) == 0
    assert 1 < await attempts.begin(account, address) <= 2


async def test_a_success_forgives_the_account(attempts):
    account, address = someone()
    for _ in range(4):
        await attempts.begin(account, address)
    await attempts.succeeded(account, address)
    for _ in range(5):
        assert await attempts.begin(account, address) == 0


async def test_an_address_is_slowed_over_many_accounts_but_not_by_good_logins(attempts):
    _, address = someone()
    for _ in range(40):
        account, _ = someone()
        assert await attempts.begin(account, address) == 0
        await attempts.succeeded(account, address)
    for _ in range(20):
        assert await attempts.begin(someone()[0], address) == 0
    assert await attempts.begin(someone()[0], address) > 0


async def test_accounts_do_not_slow_each_other(attempts):
    account, address = someone()
    for _ in range(6):
        await attempts.begin(account, address)
    assert await attempts.begin(*someone()) == 0
