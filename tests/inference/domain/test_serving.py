"""However a request ends: its draw is settled, and there is exactly one event with right counts."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from inference_support import FakeLeases, MemoryRecorder, a_caller

from ias_inference.domain.engines import Estimate, Job, Operation, Request, Turn
from ias_inference.domain.errors import ContextLengthExceeded, CutOff, EngineFailed, ModelNotFound
from ias_inference.domain.models import Backend, EngineKind, Model, Registry
from ias_inference.domain.serving import CHECKPOINT_TOKENS, Serving
from ias_inference.domain.usage import UsageStatus
from ias_runtime.errors import ResourceExhausted, Unavailable

PROMPT = 10


@dataclass
class ScriptedEngine:
    """Produces `tokens` per answer, one a batch, and does `at[n]` before the nth token."""

    tokens: int = 5
    at: dict[int, Callable[[], Any]] = field(default_factory=dict)
    exact: bool = True
    longest: int | None = None
    largest: int | None = None
    jobs: list[Job] = field(default_factory=list)
    closed: int = 0

    def check(self, backend: Backend) -> None:
        pass

    async def prepare(self, model: Model, request: Request) -> Estimate:
        return Estimate(PROMPT, self.longest, self.exact, self.largest, prepared=self)

    async def _before(self, number: int) -> None:
        result = self.at.get(number, lambda: None)()
        if result is not None:
            await result

    async def complete(self, job: Job) -> bytes:
        self.jobs.append(job)
        if not job.max_tokens:
            job.usage.prompt_tokens = PROMPT
        for number in range(1, min(self.tokens, job.max_tokens) * job.request.answers + 1):
            await self._before(number)
            job.usage.prompt_tokens = PROMPT
            job.usage.completion_tokens = number
        return b"{}"

    async def stream(self, job: Job) -> AsyncGenerator[list[bytes], None]:
        self.jobs.append(job)
        try:
            for number in range(1, min(self.tokens, job.max_tokens) * job.request.answers + 1):
                await self._before(number)
                assert job.room > 0
                job.usage.prompt_tokens = PROMPT
                job.usage.completion_tokens = number
                yield [b"token"]
            await self._before(-1)
            yield [b"end"]
        finally:
            self.closed += 1


class Bench:
    """A Serving with fakes all around it."""

    def __init__(self, engine: ScriptedEngine, budget: int | None = None, **facts: Any) -> None:
        self.engine = engine
        self.leases = FakeLeases(budget)
        self.recorder = MemoryRecorder()
        registry = Registry()
        registry.replace([Model(name="m", backends=(Backend(EngineKind.MOCK),), **facts)])
        self.serving = Serving(registry, {EngineKind.MOCK: engine}, self.leases, self.recorder)

    def stream(self, **facts: Any) -> AsyncGenerator[list[bytes], None]:
        return self.serving.stream(a_caller("m"), "r", a_request(streamed=True, **facts))

    async def complete(self, **facts: Any) -> bytes:
        return await self.serving.complete(a_caller("m"), "r", a_request(**facts))

    def assert_ended(self, status: UsageStatus, tokens: int, prompt: int = PROMPT) -> None:
        """One event, and a settled draw that agrees with it."""
        (event,) = self.recorder.events
        assert event.status is status
        assert (event.prompt_tokens, event.completion_tokens) == (prompt, tokens)
        assert self.leases.open == []
        assert [used for _, used in self.leases.settled] == [event.total_tokens]


def a_request(**facts: Any) -> Request:
    known: dict[str, Any] = {
        "operation": Operation.CHAT,
        "model": "m",
        "turns": [Turn("user", "Hi")],
        "body": {},
        "size_bytes": 50,
    }
    return Request(**(known | facts))


async def read(
    stream: AsyncGenerator[list[bytes], None], into: list[bytes] | None = None
) -> list[bytes]:
    chunks = [] if into is None else into
    async for batch in stream:
        chunks += batch
    return chunks


def failing() -> None:
    raise EngineFailed("m", "failed")


def forever() -> Any:
    return asyncio.Event().wait()


@pytest.mark.parametrize("n", [1, 4])
async def test_done(n: int) -> None:
    bench = Bench(ScriptedEngine())
    assert await read(bench.stream(n=n)) == [b"token"] * 5 * n + [b"end"]
    bench.assert_ended(UsageStatus.COMPLETED, 5 * n)
    whole = Bench(ScriptedEngine())
    await whole.complete(n=n)
    whole.assert_ended(UsageStatus.COMPLETED, 5 * n)


@pytest.mark.parametrize("at", [1, 2, 5, -1])
async def test_the_engine_fails(at: int) -> None:
    bench = Bench(ScriptedEngine(at={at: failing}))
    with pytest.raises(EngineFailed):
        await read(bench.stream())
    produced = at - 1 if at > 0 else 5
    bench.assert_ended(UsageStatus.FAILED, produced, PROMPT if produced else 0)
    whole = Bench(ScriptedEngine(at={max(at, 1): failing}))
    with pytest.raises(EngineFailed):
        await whole.complete()
    assert len(whole.recorder.events) == 1


async def test_something_unforeseen_happens_in_the_engine() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    bench = Bench(ScriptedEngine(at={3: broken}))
    with pytest.raises(ZeroDivisionError):
        await read(bench.stream())
    bench.assert_ended(UsageStatus.FAILED, 2)


@pytest.mark.parametrize("at", [1, 2, 5])
@pytest.mark.parametrize("streamed", [True, False])
async def test_the_client_leaves_while_the_engine_works(at: int, streamed: bool) -> None:
    reached = asyncio.Event()

    def stuck() -> Any:
        reached.set()
        return forever()

    bench = Bench(ScriptedEngine(at={at: stuck}))
    task: asyncio.Task[Any] = asyncio.ensure_future(
        read(bench.stream()) if streamed else bench.complete()
    )
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bench.assert_ended(UsageStatus.CANCELLED, at - 1, PROMPT if at > 1 else 0)
    assert bench.engine.closed == (1 if streamed else 0)


@pytest.mark.parametrize("read_first", [1, 2, 5])
async def test_the_generator_is_closed_behind_a_slow_reader(read_first: int) -> None:
    bench = Bench(ScriptedEngine())
    stream = bench.stream()
    for _ in range(read_first):
        await anext(stream)
    await stream.aclose()
    bench.assert_ended(UsageStatus.CANCELLED, read_first)
    assert bench.engine.closed == 1


@pytest.mark.parametrize("streamed", [True, False])
async def test_the_client_leaves_while_the_event_is_recorded(streamed: bool) -> None:
    bench = Bench(ScriptedEngine())
    bench.recorder.gate = asyncio.Event()
    task: asyncio.Task[Any] = asyncio.ensure_future(
        read(bench.stream()) if streamed else bench.complete()
    )
    while not bench.recorder.events:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bench.assert_ended(UsageStatus.COMPLETED, 5)


async def test_the_client_leaves_while_tokens_are_drawn() -> None:
    bench = Bench(ScriptedEngine())

    async def waiting(*_: Any, **__: Any) -> Any:
        await forever()

    bench.leases.draw = waiting  # type: ignore[method-assign]
    task = asyncio.ensure_future(bench.complete())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.recorder.events == []
    assert bench.engine.jobs == []


async def test_the_client_leaves_while_more_is_drawn() -> None:
    bench = Bench(ScriptedEngine(tokens=1000))
    bench.leases.plenty = True
    reached = asyncio.Event()

    async def waiting(*_: Any, **__: Any) -> bool:
        reached.set()
        return bool(await forever())

    bench.leases.extend = waiting  # type: ignore[method-assign]
    task = asyncio.ensure_future(read(bench.stream()))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (event,) = bench.recorder.events
    assert event.status is UsageStatus.CANCELLED
    assert bench.leases.settled[0][1] == event.total_tokens > PROMPT


@pytest.mark.parametrize("budget", range(PROMPT + 256, PROMPT + 300, 7))
async def test_a_stream_is_cut_off_at_the_last_token_of_the_budget(budget: int) -> None:
    bench = Bench(ScriptedEngine(tokens=1000), budget)
    chunks: list[bytes] = []
    with pytest.raises(CutOff) as caught:
        await read(bench.stream(), chunks)
    bench.assert_ended(UsageStatus.CUT_OFF, budget - PROMPT)
    assert b'"finish_reason":"length"' in chunks[-1]
    assert len(chunks) == budget - PROMPT + 1
    assert caught.value.metadata["scope"] == "organization"
    assert bench.leases.left == 0


async def test_an_answer_that_ends_with_the_budget_s_last_token_is_not_cut_off() -> None:
    engine = ScriptedEngine(tokens=300)
    engine.at[300] = lambda: setattr(engine.jobs[0], "ended", True)
    bench = Bench(engine, PROMPT + 300)
    assert (await read(bench.stream()))[-1] == b"end"
    bench.assert_ended(UsageStatus.COMPLETED, 300)


async def test_a_cut_off_ends_every_answer() -> None:
    bench = Bench(ScriptedEngine(tokens=1000), PROMPT + 4 * 256)
    chunks: list[bytes] = []
    with pytest.raises(CutOff):
        await read(bench.stream(n=4), chunks)
    assert chunks[-1].count(b'"length"') == 4


async def test_a_whole_answer_fits_what_a_scarce_budget_has_left() -> None:
    bench = Bench(ScriptedEngine(tokens=1000), PROMPT + 4 * 300 + 3)
    await bench.complete(n=4)
    bench.assert_ended(UsageStatus.CUT_OFF, 4 * 300)
    assert bench.engine.jobs[0].max_tokens == 300


async def test_no_room_means_no_engine_and_no_event() -> None:
    bench = Bench(ScriptedEngine(), PROMPT + 255)
    for attempt in (bench.complete(), read(bench.stream())):
        with pytest.raises(ResourceExhausted):
            await attempt
    assert bench.engine.jobs == []
    assert bench.recorder.events == []


async def test_a_full_spool_draws_nothing() -> None:
    bench = Bench(ScriptedEngine(), 1000)
    bench.recorder.full = True
    with pytest.raises(Unavailable):
        await bench.complete()
    assert bench.leases.left == 1000


async def test_a_spool_that_fails_at_the_end_fails_the_answer() -> None:
    bench = Bench(ScriptedEngine())

    async def failing(_: Any) -> None:
        raise Unavailable("spool", reason="SPOOL_FULL")

    bench.recorder.record = failing  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await bench.complete()
    assert bench.leases.open == []


async def test_checkpoints_come_with_the_first_token_and_then_regularly() -> None:
    bench = Bench(ScriptedEngine(tokens=100))
    await read(bench.stream())
    counts = [usage.completion_tokens for usage in bench.recorder.checkpoints]
    assert counts == [
        1,
        1 + CHECKPOINT_TOKENS,
        1 + 2 * CHECKPOINT_TOKENS,
        1 + 3 * CHECKPOINT_TOKENS,
    ]
    (event,) = bench.recorder.events
    assert {usage.event_id for usage in bench.recorder.checkpoints} == {event.event_id}
    assert event.time_to_first_token_us <= bench.recorder.checkpoints[-1].duration_us
    assert event.duration_us >= event.time_to_first_token_us > 0
    assert event.lease_id


async def test_what_is_drawn_follows_what_the_model_usually_says() -> None:
    bench = Bench(ScriptedEngine(tokens=5), max_output_tokens=4096)
    bench.leases.plenty = True
    for _ in range(40):
        await read(bench.stream())
    assert bench.leases.settled[0][0] == PROMPT + 256
    assert bench.leases.settled[-1][0] == PROMPT + 64
    bench.engine.tokens = 500
    for _ in range(40):
        await read(bench.stream())
    assert bench.leases.settled[-1][0] >= PROMPT + 500


async def test_the_answer_is_bounded_by_request_model_and_context() -> None:
    bench = Bench(ScriptedEngine(tokens=1000), max_output_tokens=50, context_length=45)
    await bench.complete()
    await bench.complete(max_tokens=20)
    await bench.complete(max_tokens=35)
    assert [job.max_tokens for job in bench.engine.jobs] == [35, 20, 35]
    with pytest.raises(ContextLengthExceeded):
        await bench.complete(max_tokens=36)


async def test_a_guessed_prompt_refuses_nothing() -> None:
    bench = Bench(ScriptedEngine(exact=False), context_length=5)
    await bench.complete()
    assert bench.engine.jobs[0].max_tokens == 4096


@pytest.mark.parametrize("operation", [Operation.EMBEDDING, Operation.RERANK, Operation.SCORE])
async def test_an_operation_without_an_answer_draws_its_prompt_alone(operation: Operation) -> None:
    bench = Bench(ScriptedEngine(), PROMPT, context_length=PROMPT)
    await bench.complete(operation=operation, inputs=["a", "b"])
    (event,) = bench.recorder.events
    assert (event.operation, event.prompt_tokens, event.completion_tokens) == (operation, PROMPT, 0)
    assert bench.leases.settled == [(PROMPT, PROMPT)]
    assert bench.engine.jobs[0].max_tokens == 0


@pytest.mark.parametrize("operation", [Operation.TOKENIZE, Operation.DETOKENIZE])
async def test_what_runs_no_model_draws_and_records_nothing(operation: Operation) -> None:
    bench = Bench(ScriptedEngine(), 0)
    assert await bench.complete(operation=operation) == b"{}"
    assert bench.leases.settled == []
    assert bench.recorder.events == []
    with pytest.raises(ModelNotFound):
        await bench.complete(operation=operation, model="ghost")


async def test_several_prompts_are_each_bounded_by_the_context_and_counted_together() -> None:
    bench = Bench(ScriptedEngine(tokens=3, largest=4), context_length=10)
    await bench.complete(operation=Operation.COMPLETION, inputs=["a", "b"], n=2)
    bench.assert_ended(UsageStatus.COMPLETED, 3 * 4)
    assert bench.engine.jobs[0].max_tokens == 6
    assert bench.engine.jobs[0].completion_id.startswith("cmpl-")
    with pytest.raises(ContextLengthExceeded) as caught:
        await bench.complete(operation=Operation.COMPLETION, inputs=["a", "b"], max_tokens=7)
    assert caught.value.field == "prompt"


async def test_what_the_engine_prepared_is_handed_on() -> None:
    bench = Bench(ScriptedEngine())
    await bench.complete()
    assert bench.engine.jobs[0].prepared is bench.engine


async def test_an_unknown_model_is_not_found() -> None:
    bench = Bench(ScriptedEngine())
    with pytest.raises(ModelNotFound):
        await bench.complete(model="ghost")


async def test_shutting_down_waits_for_the_events_of_what_runs() -> None:
    bench = Bench(ScriptedEngine(at={2: lambda: asyncio.sleep(0.05)}))
    task = asyncio.ensure_future(bench.complete())
    await asyncio.sleep(0)
    await bench.serving.settled(5)
    assert len(bench.recorder.events) == 1
    await task
