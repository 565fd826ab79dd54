"""A request from its admission to its usage event, whatever operation it asks for.

Whatever happens after the engine was asked (done, failed, cut off, the client gone), what was drawn
is settled and exactly one event is recorded, before the client sees the end of its answer.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from ias_inference.domain import jobs
from ias_inference.domain.engines import Engine, Job, Request
from ias_inference.domain.errors import CutOff
from ias_inference.domain.fit import fitted
from ias_inference.domain.models import EngineKind, Model, Registry
from ias_inference.domain.ports import Draw, Leases, UsageRecorder
from ias_inference.domain.reserve import Reserve
from ias_inference.domain.usage import UsageStatus
from ias_runtime.caller import Caller
from ias_runtime.errors import IasError

CHECKPOINT_TOKENS = 32
"""Tokens of a stream between two checkpoints: what `kill -9` can lose at most."""
HEADROOM_TOKENS = 32
"""Per answer: when a stream has less than this left of its draw, more is drawn."""
EXTENSIONS = (256, HEADROOM_TOKENS)
"""What a stream draws at a time: the second when there is no room for the first."""


@dataclass(slots=True)
class _Run:
    """One admitted request."""

    caller: Caller
    engine: Engine
    draw: Draw
    job: Job
    started: float
    checkpoint_at: int = field(default=1)
    refused: bool = field(default=False)
    """Whether the last attempt to draw more was refused."""


class Serving:
    """Answers requests. One instance per process."""

    def __init__(
        self,
        registry: Registry,
        engines: Mapping[EngineKind, Engine],
        leases: Leases,
        recorder: UsageRecorder,
    ) -> None:
        self._registry = registry
        self._engines = engines
        self._leases = leases
        self._recorder = recorder
        self._reserves: dict[str, Reserve] = {}
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def complete(self, caller: Caller, request_id: str, request: Request) -> bytes:
        """The whole answer, as Engine.complete gives it. Raises IasError; see domain.errors."""
        if not request.operation.metered:
            return await self._answer_unmetered(caller, request_id, request)
        run = await self._begin(caller, request_id, request)
        usage = run.job.usage
        status = UsageStatus.CANCELLED
        try:
            answer = await run.engine.complete(run.job)
            usage.time_to_first_token_us = _since_us(run.started)
            status = UsageStatus.COMPLETED
            if run.refused and usage.completion_tokens >= run.job.max_tokens * request.answers:
                status = UsageStatus.CUT_OFF
        except Exception:
            status = UsageStatus.FAILED
            raise
        finally:
            await self._end(run, status)
        return answer

    async def stream(
        self, caller: Caller, request_id: str, request: Request
    ) -> AsyncGenerator[list[bytes], None]:
        """The answer's events as Engine.stream gives them.

        Raises IasError: before the first event for what was refused or failed at once, later when
        the engine fails (EngineFailed) or the budget runs out (CutOff) in mid-stream.
        """
        run = await self._begin(caller, request_id, request)
        status = UsageStatus.CANCELLED
        try:
            async with aclosing(run.engine.stream(run.job)) as batches:
                async for batch in batches:
                    self._note_progress(run)
                    yield batch
                    if not run.job.ended and not await self._make_room(run):
                        if last := jobs.last_chunk(run.job):
                            yield [last]
                        raise CutOff(self._tightest_budget(caller))
            status = UsageStatus.COMPLETED
        except CutOff:
            status = UsageStatus.CUT_OFF
            raise
        except Exception:
            status = UsageStatus.FAILED
            raise
        finally:
            await self._end(run, status)

    async def settled(self, timeout_s: float) -> None:
        """Returns when no request runs and each has its event, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return

    async def _begin(self, caller: Caller, request_id: str, request: Request) -> _Run:
        """Admits a request: model, size, spool, budget. Nothing to undo when it raises."""
        started = time.perf_counter()
        model = self._registry.get(request.model, caller.organization_id)
        engine = self._engines[model.engine]
        request = fitted(model, request)
        estimate = await engine.prepare(model, request)
        bound = jobs.longest_answer(model, request, estimate)
        self._recorder.check()
        prompt, n, streamed = estimate.prompt_tokens, request.answers, request.streamed
        usual = min(bound, self._reserve(model).tokens) if bound else 0
        want = prompt + bound * n
        draw = await self._leases.draw(
            caller, need=prompt + usual * n, want=want, whole=not streamed
        )
        # Between the draw and the try of whoever called, nothing may be awaited.
        scarce = not streamed and draw.tokens < want
        # A request that can't be extended must fit what was drawn.
        max_tokens = max(1, (draw.tokens - prompt) // n) if scarce else bound
        job = jobs.new_job(caller, request_id, model, request, estimate, max_tokens=max_tokens)
        job.usage.lease_id = draw.lease_id
        job.limit = draw.tokens
        self._running += 1
        self._idle.clear()
        return _Run(caller, engine, draw, job, started, refused=scarce)

    async def _answer_unmetered(self, caller: Caller, request_id: str, request: Request) -> bytes:
        """The answer of an operation that runs no model: nothing is drawn, nothing recorded."""
        model = self._registry.get(request.model, caller.organization_id)
        engine = self._engines[model.engine]
        request = fitted(model, request)
        estimate = await engine.prepare(model, request)
        return await engine.complete(
            jobs.new_job(caller, request_id, model, request, estimate, max_tokens=0)
        )

    def _reserve(self, model: Model) -> Reserve:
        found = self._reserves.get(model.real_name)
        if found is None:
            found = self._reserves[model.real_name] = Reserve()
        return found

    def _note_progress(self, run: _Run) -> None:
        usage = run.job.usage
        if usage.completion_tokens < run.checkpoint_at:
            return
        if not usage.time_to_first_token_us:
            usage.time_to_first_token_us = _since_us(run.started)
        usage.duration_us = _since_us(run.started)
        run.checkpoint_at = usage.completion_tokens + CHECKPOINT_TOKENS
        self._recorder.checkpoint(usage)

    async def _make_room(self, run: _Run) -> bool:
        """Draws more when the draw runs low. False when nothing is left and no more to get."""
        job, draw = run.job, run.draw
        room, wanted = job.room, job.outstanding
        if room >= wanted or room >= HEADROOM_TOKENS * job.request.answers:
            return True
        # A budget that refused is asked again only when all is used up: others may have returned.
        if run.refused and room > 0:
            return True
        for step in EXTENSIONS:
            if await self._leases.extend(draw, tokens=min(step - min(room, 0), wanted - room)):
                job.limit = draw.tokens
                run.refused = False
                return True
        run.refused = True
        return room > 0

    def _tightest_budget(self, caller: Caller) -> dict[str, str]:
        budget = self._leases.budget(caller)
        if budget is None:
            return {}
        return {
            "scope": budget.scope,
            "limit": str(budget.limit_tokens),
            "reset_time": budget.reset_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    async def _end(self, run: _Run, status: UsageStatus) -> None:
        """Settles and records, also when the caller's task is being cancelled."""
        usage = run.job.usage
        usage.status = status
        usage.lease_id = run.draw.lease_id
        usage.duration_us = _since_us(run.started)
        self._leases.settle(run.draw, usage.total_tokens)
        if status is UsageStatus.COMPLETED and run.job.max_tokens:
            self._reserves[usage.model].add(-(-usage.completion_tokens // run.job.request.answers))
        try:
            # Needs no shield: the recorder takes the event before it awaits anything.
            await self._recorder.record(usage)
        except IasError:
            # The failure that ended the request says more to its sender than this one.
            if status is UsageStatus.COMPLETED:
                raise
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()


def _since_us(started: float) -> int:
    return max(1, int((time.perf_counter() - started) * 1e6))
