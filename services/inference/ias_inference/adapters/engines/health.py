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


class HealthChecks:
    """A task for each backend that is watched."""

    def __init__(self, prober: Prober) -> None:
        self._prober = prober
        self._tasks: dict[Member, asyncio.Task[None]] = {}

    def watch(self, members: Iterable[Member]) -> None:
        """Watches these from now on, and no others."""
        wanted = set(members)
        for member in self._tasks.keys() - wanted:
            self._tasks.pop(member).cancel()
        for member in wanted - self._tasks.keys():
            self._tasks[member] = asyncio.create_task(self._check(member), name="health check")

    async def _check(self, member: Member) -> None:
        while True:
            probe = await self._prober.probe(member.backend)
            member.note_check(passed=probe.reachable and not probe.problem)
            await asyncio.sleep(INTERVAL_S * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311
