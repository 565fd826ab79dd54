"""Revocation messages: at once to every process, for as long as Redis is there.

Channel `ias.revocations`, messages `{"kind": "api_key", "id": "<uuid>"}`.
"""

import asyncio
import time
from collections.abc import Callable

import msgspec
import redis.asyncio as redis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ias_identity.adapters.redis.breaker import Breaker, Down

CHANNEL = "ias.revocations"
_PING_S = 1.0
_SILENCE_S = 3.0
"""Without an answer to a ping for so long, the connection counts as cut."""
log = structlog.get_logger()


class RedisAnnouncer:
    """Implements Announcer: this process first, then the others."""

    def __init__(
        self, client: redis.Redis, breaker: Breaker, forget: Callable[[set[str]], None]
    ) -> None:
        self._client = client
        self._breaker = breaker
        self._forget = forget

    async def announce(self, kind: str, identifier: str) -> None:
        """See the port."""
        self._forget({identifier})
        message = msgspec.json.encode({"kind": kind, "id": identifier})
        try:
            await self._breaker.run(self._client.publish(CHANNEL, message))
        except Down:
            log.warning("revocation not published; the others poll", kind=kind, id=identifier)


class RedisSubscription:
    """Hears revocations, and says whether it would."""

    def __init__(
        self,
        url: str,
        forget: Callable[[set[str]], None],
        forget_all: Callable[[], None],
    ) -> None:
        self._url = url
        self._forget = forget
        self._forget_all = forget_all
        self.hearing = False
        """Whether a message sent now would arrive."""

    async def run(self) -> None:
        """Listens until cancelled, connecting anew after each failure."""
        while True:
            try:
                await self._listen()
            except (redis.RedisError, OSError, TimeoutError) as error:
                if self.hearing:
                    log.warning("revocation messages are cut", cause=repr(error))
            finally:
                self.hearing = False
            await asyncio.sleep(1)

    async def _listen(self) -> None:
        client = redis.Redis.from_url(
            self._url, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
        )
        async with client, client.pubsub() as pubsub:
            async with asyncio.timeout(_SILENCE_S):
                await pubsub.subscribe(CHANNEL)
            # What was said while nobody listened here is unknown.
            self._forget_all()
            last_heard = time.monotonic()
            pinged = 0.0
            while (now := time.monotonic()) - last_heard < _SILENCE_S:
                async with asyncio.timeout(_SILENCE_S):
                    if now - pinged >= _PING_S:
                        await pubsub.ping()
                        pinged = now
                    message = await pubsub.get_message(timeout=_PING_S)
                if message is None:
                    continue
                last_heard = time.monotonic()
                self.hearing = True
                if message["type"] == "message":
                    self._hear(message["data"])
            raise TimeoutError("no answer to pings")

    def _hear(self, data: bytes) -> None:
        try:
            identifier = msgspec.json.decode(data)["id"]
        except (msgspec.DecodeError, KeyError, TypeError):
            log.warning("revocation message not understood")
            self._forget_all()
            return
        self._forget({str(identifier)})
