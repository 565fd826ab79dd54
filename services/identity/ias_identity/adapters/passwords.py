"""Passwords: argon2id (RFC 9106), in threads, a bounded number at once."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from ias_runtime.errors import Unavailable

_THREADS = 2  # each takes 64 MiB and a core for some 50 ms
_WAITING = 64
R = TypeVar("R")


class Argon2Passwords:
    """Implements PasswordHashes."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="argon2")
        self._waiting = 0
        # Nobody's password; verified in the place of an unknown account's.
        self._dummy = self._hasher.hash("no such account")

    async def hash(self, password: str) -> str:
        """See the port."""
        return await self._run(partial(self._hasher.hash, password.encode(errors="replace")))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """See the port."""
        right = await self._run(partial(self._verify, password_hash or self._dummy, password))
        return right and password_hash is not None

    def close(self) -> None:
        """Lets the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password.encode(errors="replace"))
        except (Argon2Error, InvalidHashError):
            return False

    async def _run(self, work: "partial[R]") -> R:
        if self._waiting >= _WAITING:
            raise Unavailable("login", message="Too many logins at once; try again shortly.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
