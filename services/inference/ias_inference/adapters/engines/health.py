"""Asks backends every few seconds whether they are there."""

import asyncio
import random
from collections.abc import Iterable

from ias_inference.adapters.engines.balancer import Member
from ias_inference.domain.model_management import Prober

INTERVAL_S = 2.0
HEALTH_TIMEOUT_S = 2.0
_JITTER = 0.2
"""Processes that started together must not ask together."""
_Server = tuple[str, str]
"""URL and API key."""


class HealthChecks:
    """A task for each server: what it finds holds for all models that are served there."""

    def __init__(self, prober: Prober) -> None:
        self._prober = prober
        self._members: dict[_Server, list[Member]] = {}
        self._tasks: dict[_Server, asyncio.Task[None]] = {}

    def watch(self, members: Iterable[Member]) -> None:
        """Watches these from now on, and no others."""
        self._members = {}
        for member in members:
            server = member.backend.url, member.backend.api_key
            self._members.setdefault(server, []).append(member)
        for server in self._tasks.keys() - self._members.keys():
            self._tasks.pop(server).cancel()
        for server in self._members.keys() - self._tasks.keys():
            self._tasks[server] = asyncio.create_task(self._check(server), name="health check")

    async def _check(self, server: _Server) -> None:
        while True:
            probe = await self._prober.probe(self._members[server][0].backend)
            for member in self._members[server]:
                member.note_check(passed=probe.reachable and not probe.problem)
            await asyncio.sleep(INTERVAL_S * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311
