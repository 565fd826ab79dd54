"""A circuit breaker, so that a frozen Redis costs its timeout once a second, not once a call."""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

import redis.asyncio as redis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MaxConnectionsError

T = TypeVar("T")
log = structlog.get_logger()

TIMEOUT_S = 0.1
PAUSE_S = 1.0


class Down(Exception):
    """Redis didn't answer, or hadn't a moment ago."""


class Breaker:
    """Runs Redis commands within TIMEOUT_S, and none for PAUSE_S after a failure."""

    def __init__(self) -> None:
        self._closed_at = 0.0

    async def run(self, command: Awaitable[T]) -> T:
        """The command's answer. Raises Down."""
        if time.monotonic() < self._closed_at:
            _discard(command)
            raise Down
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await command
        except MaxConnectionsError as error:
            # Too much at once on our side: go without, but nothing is broken.
            raise Down from error
        except (redis.RedisError, OSError, TimeoutError) as error:
            if time.monotonic() >= self._closed_at:
                log.warning("redis does not answer", cause=repr(error))
            self._closed_at = time.monotonic() + PAUSE_S
            raise Down from error


def connect(url: str) -> "redis.Redis":
    """A client that gives up soon and never repeats by itself."""
    return redis.Redis.from_url(
        url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        max_connections=64,
    )


def _discard(command: Awaitable[object]) -> None:
    close = getattr(command, "close", None)
    if close is not None:
        close()
