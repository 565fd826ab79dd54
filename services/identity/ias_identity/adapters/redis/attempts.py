"""Counts attempts to log in, per account and per address, for all processes together.

From the free number of failures on, each further one doubles the wait: 1 s, 2 s, 4 s … up to five
minutes, so guessing is hopeless and a victim is never locked out for long. Without Redis each
process counts for itself.
"""

import hashlib
import time
from typing import Any

import redis.asyncio as redis

from ias_identity.adapters.redis.breaker import Breaker, Down

WINDOW_S = 900
MAX_WAIT_S = 300
FREE_ACCOUNT = 5
FREE_ADDRESS = 20  # many people may share one
_LOCAL_ENTRIES = 100_000

_BEGIN = """
local waits = {}
for i = 1, 2 do
  local wait = redis.call('PTTL', KEYS[i] .. ':wait')
  if wait > 0 then waits[#waits + 1] = wait end
end
if #waits > 0 then return math.max(unpack(waits)) end
for i = 1, 2 do
  local count = redis.call('INCR', KEYS[i])
  redis.call('EXPIRE', KEYS[i], ARGV[1])
  local over = count - tonumber(ARGV[2 + i])
  if over >= 0 then
    local wait = math.min(2 ^ math.min(over, 30), tonumber(ARGV[2]))
    redis.call('SET', KEYS[i] .. ':wait', '1', 'PX', wait * 1000)
  end
end
return 0
"""
_SUCCEEDED = """
redis.call('DEL', KEYS[1], KEYS[1] .. ':wait')
if redis.call('EXISTS', KEYS[2]) == 1 then
  if redis.call('DECR', KEYS[2]) < tonumber(ARGV[1]) then
    redis.call('DEL', KEYS[2] .. ':wait')
  end
end
"""


class RedisLoginAttempts:
    """Implements LoginAttempts."""

    def __init__(self, client: redis.Redis, breaker: Breaker) -> None:
        self._breaker = breaker
        self._begin = client.register_script(_BEGIN)
        self._succeeded = client.register_script(_SUCCEEDED)
        self._local = LocalLoginAttempts()

    async def begin(self, account: str, address: str) -> float:
        """See the port."""
        arguments = [WINDOW_S, MAX_WAIT_S, FREE_ACCOUNT, FREE_ADDRESS]
        try:
            wait_ms: Any = await self._breaker.run(
                self._begin(keys=_keys(account, address), args=arguments)
            )
        except Down:
            return await self._local.begin(account, address)
        return float(wait_ms) / 1000

    async def succeeded(self, account: str, address: str) -> None:
        """See the port."""
        try:
            await self._breaker.run(
                self._succeeded(keys=_keys(account, address), args=[FREE_ADDRESS])
            )
        except Down:
            await self._local.succeeded(account, address)


class LocalLoginAttempts:
    """The same rule, for this process alone."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, float, float]] = {}
        """By key: failures, when they are forgotten, until when to wait (monotonic seconds)."""

    async def begin(self, account: str, address: str) -> float:
        """See the port."""
        now = time.monotonic()
        keys = _keys(account, address)
        wait = max(self._entry(key, now)[2] for key in keys) - now
        if wait > 0:
            return wait
        for key, free in zip(keys, (FREE_ACCOUNT, FREE_ADDRESS), strict=True):
            count = self._entry(key, now)[0] + 1
            over = count - free
            until = now + min(2 ** min(over, 30), MAX_WAIT_S) if over >= 0 else 0.0
            if len(self._counts) >= _LOCAL_ENTRIES:
                self._counts.pop(next(iter(self._counts)))
            self._counts[key] = (count, now + WINDOW_S, until)
        return 0.0

    async def succeeded(self, account: str, address: str) -> None:
        """See the port."""
        account_key, address_key = _keys(account, address)
        self._counts.pop(account_key, None)
        count, forgotten_at, until = self._entry(address_key, time.monotonic())
        if count:
            self._counts[address_key] = (
                count - 1,
                forgotten_at,
                until if count - 1 >= FREE_ADDRESS else 0.0,
            )

    def _entry(self, key: str, now: float) -> tuple[int, float, float]:
        found = self._counts.get(key)
        return found if found is not None and found[1] > now else (0, 0.0, 0.0)


def _keys(account: str, address: str) -> list[str]:
    # Hashed: Redis need not know who tries to log in.
    digests = [hashlib.sha256(text.encode()).hexdigest()[:32] for text in (account, address)]
    return [f"ias:identity:login:account:{digests[0]}", f"ias:identity:login:address:{digests[1]}"]
