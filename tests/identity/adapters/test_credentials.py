"""The layers of the credentials' cache, each step told apart."""

import asyncio
import time
from dataclasses import replace

import pytest

from ias_identity.adapters.credentials import CachedCredentials
from ias_identity.domain.access import Credential
from ias_runtime.caller import CallerKind, Role
from ias_runtime.errors import Unavailable

KEY = CallerKind.API_KEY


class Source:
    """The database: counts the questions, and can fail."""

    def __init__(self):
        self.rows = {}
        self.asked = 0
        self.failing = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, kind, lookup):
        self.asked += 1
        loaded_at = time.time()
        found = self.rows.get(lookup)
        await self.gate.wait()
        if self.failing:
            raise ConnectionRefusedError
        return replace(found, loaded_at=loaded_at) if found else None


class Shared:
    """A cache that processes share."""

    def __init__(self):
        self.rows = {}

    async def get(self, kind, lookup):
        found = self.rows.get(lookup)
        return replace(found) if found else None

    async def put(self, credential):
        self.rows[credential.lookup] = replace(credential, live=True)

    async def drop(self, credentials):
        for each in credentials:
            self.rows.pop(each.lookup, None)


def credential(lookup="k", **facts):
    return Credential(KEY, f"id-{lookup}", lookup, "org", "user", Role.ORG_USER, **facts)


@pytest.fixture
def source():
    made = Source()
    made.rows["k"] = credential()
    return made


@pytest.fixture
def shared():
    return Shared()


@pytest.fixture
def cache(source, shared):
    return CachedCredentials(source, shared, hearing=lambda: True)


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_known_key_is_asked_for_once(cache, source):
    for _ in range(3):
        assert (await cache.find(KEY, "k")).id == "id-k"
    assert source.asked == 1


async def test_many_at_once_for_a_cold_key_make_one_query(cache, source):
    source.gate.clear()
    tasks = [asyncio.create_task(cache.find(KEY, "k")) for _ in range(50)]
    await settle()
    source.gate.set()
    assert {found.id for found in await asyncio.gather(*tasks)} == {"id-k"}
    assert source.asked == 1


async def test_one_who_stops_waiting_does_not_spoil_it_for_the_others(cache, source):
    source.gate.clear()
    first = asyncio.create_task(cache.find(KEY, "k"))
    second = asyncio.create_task(cache.find(KEY, "k"))
    await settle()
    first.cancel()
    source.gate.set()
    assert (await second).id == "id-k"


async def test_an_unknown_key_is_asked_for_once_in_a_while(cache, source):
    for _ in range(3):
        assert await cache.find(KEY, "nobody") is None
    assert source.asked == 1


async def test_what_another_process_has_loaded_needs_no_query(cache, source, shared):
    shared.rows["k"] = credential(loaded_at=time.time())
    assert (await cache.find(KEY, "k")).id == "id-k"
    assert source.asked == 0


async def test_what_was_loaded_is_shared(cache, shared):
    await cache.find(KEY, "k")
    await settle()
    assert shared.rows["k"].id == "id-k"


@pytest.mark.parametrize("changed", ["id-k", "user", "org"])
async def test_a_change_of_key_user_or_organisation_drops_it(cache, source, shared, changed):
    held = await cache.find(KEY, "k")
    await settle()
    cache.forget({changed})
    await settle()
    assert not held.live
    assert not shared.rows
    source.rows["k"] = credential(ended=True)
    assert (await cache.find(KEY, "k")).ended


async def test_a_change_elsewhere_drops_nothing(cache):
    held = await cache.find(KEY, "k")
    cache.forget({"someone else"})
    assert held.live
    assert await cache.find(KEY, "k") is held


async def test_a_change_during_the_loading_makes_the_copy_short_lived(cache, source, shared):
    source.gate.clear()
    loading = asyncio.create_task(cache.find(KEY, "k"))
    await settle()
    cache.forget({"id-k"})
    source.gate.set()
    found = await loading
    assert found.good_until <= time.time() + 1
    assert not shared.rows


async def test_an_old_copy_of_another_process_is_passed_over_after_a_change(cache, source, shared):
    shared.rows["k"] = credential(loaded_at=time.time())
    cache.forget({"id-k"})
    source.rows["k"] = credential(ended=True)
    assert (await cache.find(KEY, "k")).ended


async def test_without_the_database_a_held_key_goes_on_and_a_cold_one_does_not(
    cache, source, shared
):
    held = await cache.find(KEY, "k")
    await settle()
    held.good_until = 0
    shared.rows.clear()
    source.failing = True
    assert await cache.find(KEY, "k") is held
    with pytest.raises(Unavailable):
        await cache.find(KEY, "cold")


async def test_without_the_database_nor_revocation_messages_nothing_goes_on(source, shared):
    deaf = CachedCredentials(source, shared, hearing=lambda: False)
    (await deaf.find(KEY, "k")).good_until = 0
    await settle()
    shared.rows.clear()
    source.failing = True
    with pytest.raises(Unavailable):
        await deaf.find(KEY, "k")


async def test_a_revoked_key_does_not_go_on_without_the_database(cache, source):
    (await cache.find(KEY, "k")).good_until = 0
    source.failing = True
    cache.forget({"id-k"})
    with pytest.raises(Unavailable):
        await cache.find(KEY, "k")
