"""Identity without Redis, with a frozen one, without Postgres; and what it keeps and says."""

import asyncio
import os
import time
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import pytest
from ias.identity.v1 import api_keys_pb2, sessions_pb2
from identity_support import PASSWORD, check_of, fresh_database, make_settings, running


class Proxy:
    """Stands before a server, to cut and freeze it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._url = url
        self._pairs: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.refusing = False

    async def start(self) -> str:
        """The URL by which to reach the server through here."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        parts = urlsplit(self._url)
        user = f"{parts.username}@" if parts.username else ""
        if parts.password:
            user = f"{parts.username}:{parts.password}@"
        return parts._replace(netloc=f"{user}127.0.0.1:{port}").geturl()

    def cut(self) -> None:
        """Ends all connections and refuses new ones."""
        self.refusing = True
        for writer in list(self._pairs):
            writer.transport.abort()

    def freeze(self) -> None:
        """Lets nothing through, but keeps connections open."""
        self._flowing.clear()

    def restore(self) -> None:
        """As before."""
        self.refusing = False
        self._flowing.set()

    async def close(self) -> None:
        self.cut()
        self._flowing.set()
        self._server.close()

    async def _accept(self, reader, writer):
        if self.refusing:
            writer.transport.abort()
            return
        there, out = await asyncio.open_connection(*self._target)
        self._pairs |= {writer, out}
        await asyncio.gather(
            self._pump(reader, out), self._pump(there, writer), return_exceptions=True
        )
        self._pairs -= {writer, out}

    async def _pump(self, reader, writer):
        try:
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def proxied(*, redis: bool = False, postgres: bool = False):
    """Identity with proxies before its servers; gives (identity, redis proxy, postgres proxy)."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(fresh_database())
        redis_url = os.environ["IAS_TEST_REDIS_URL"]
        proxies = (Proxy(redis_url), Proxy(url))
        redis_url, url = [await proxy.start() for proxy in proxies]
        identity = await stack.enter_async_context(running(make_settings(url, redis_url)))
        try:
            yield identity, *proxies
        finally:
            for proxy in proxies:
                proxy.restore()
        for proxy in proxies:
            stack.push_async_callback(proxy.close)


@pytest.mark.parametrize("fault", ["cut", "freeze"])
async def test_without_redis_keys_are_checked_quickly_and_revoked_in_time(fault):
    async with proxied() as (identity, redis, _):
        check = check_of(identity)
        tenant = await identity.new_tenant()
        keys = [await tenant.new_key() for _ in range(20)]
        getattr(redis, fault)()
        started = time.monotonic()
        for key in keys:
            assert (await check(key.secret)).allowed
        # The timeout is paid once, not twenty times.
        assert time.monotonic() - started < 1.5
        await identity.api_keys.RevokeApiKey(
            api_keys_pb2.RevokeApiKeyRequest(api_key_id=keys[0].api_key.id), metadata=tenant.user
        )
        assert (await check(keys[0].secret)).status == 401
        login = sessions_pb2.LoginRequest(email=tenant.user_user.email, password=PASSWORD)
        answer = await identity.sessions.Login(login, metadata=identity.anonymous)
        assert answer.tokens.access_token


@pytest.mark.parametrize("fault", ["cut", "freeze"])
async def test_without_postgres_hot_keys_go_on_and_cold_ones_get_503(fault):
    async with proxied() as (identity, _, postgres):
        check = check_of(identity)
        tenant = await identity.new_tenant()
        hot, cold = await tenant.new_key(), await tenant.new_key()
        for _ in range(50):  # until the revocation messages are heard
            assert (await check(hot.secret)).allowed
            await asyncio.sleep(0.02)
        getattr(postgres, fault)()
        started = time.monotonic()
        while time.monotonic() - started < 4:
            assert (await check(hot.secret, model=f"m{time.monotonic()}")).allowed
            await asyncio.sleep(0.1)
        refused = await check(cold.secret)
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json["error"]["code"] == "service_unavailable"
        grpc = {"path": "/ias.inference.v1.ChatService/Chat", "content_type": "application/grpc"}
        assert (await check(cold.secret, **grpc)).headers["grpc-status"] == "14"
        rest = await check(cold.secret, path="/api/v1/users", method="GET", content_type="")
        assert rest.json["code"] == 14
        # A made-up key needs no database to be refused.
        assert (await check("ias_" + "B" * 52)).status == 401
        postgres.restore()
        for _ in range(100):
            if (await check(cold.secret)).allowed:
                break
            await asyncio.sleep(0.05)
        else:
            pytest.fail("not recovered after 5 s")


async def test_no_secret_is_kept_or_said(identity, tenant, check, capfd):
    password = "canary-password-7f3a-xyzzy"
    person = await tenant.join("canary", 3)
    key = await tenant.new_key(name="canary")
    login = sessions_pb2.LoginRequest(email=person.email, password=PASSWORD)
    tokens = (await identity.sessions.Login(login, metadata=identity.anonymous)).tokens
    for wrong in (password, key.secret):
        with pytest.raises(Exception, match="wrong"):
            await identity.sessions.Login(
                sessions_pb2.LoginRequest(email=person.email, password=wrong),
                metadata=identity.anonymous,
            )
    await check(key.secret)
    await check(key.secret[:-1] + ("a" if key.secret[-1] != "a" else "b"))
    secrets = [
        PASSWORD,
        password,
        key.secret,
        key.secret[16:50],
        tokens.access_token,
        tokens.refresh_token,
        person.tokens.refresh_token,
        identity.settings.key_pepper.get_secret_value(),
    ]
    tables = await identity.pool.fetch(
        "select table_schema || '.' || table_name as name from information_schema.tables"
        " where table_schema in ('identity', 'audit')"
    )
    dump = ""
    for table in tables:
        rows = await identity.pool.fetch(f"select t::text as row from {table['name']} t")
        dump += "\n".join(row["row"] for row in rows)
    out, err = capfd.readouterr()
    assert "canary" in dump
    for secret in secrets:
        assert secret not in dump
        assert secret.encode().hex() not in dump
        assert secret not in out + err


async def test_the_last_use_of_a_key_is_written_soon(identity, tenant, check):
    key = await tenant.new_key()
    await check(key.secret, address="203.0.113.99")
    for _ in range(100):
        found = await identity.api_keys.GetApiKey(
            api_keys_pb2.GetApiKeyRequest(api_key_id=key.api_key.id), metadata=tenant.user
        )
        if found.api_key.last_use_address:
            break
        await asyncio.sleep(0.05)
    assert found.api_key.last_use_address == "203.0.113.99"
    assert abs(found.api_key.last_use_time.seconds - time.time()) < 60
