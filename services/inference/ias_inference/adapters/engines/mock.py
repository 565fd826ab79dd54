"""The engine `mock`: deterministic text without a model, counted to the token.

Its counters say what it produced, independently of what is charged: the oracle of the fault tests.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from ias_inference.adapters.engines import mock_plan, mock_pooling, mock_tokens
from ias_inference.adapters.engines.mock_forms import ChatForm, CompletionForm, Form
from ias_inference.adapters.engines.mock_plan import Answer, Switches
from ias_inference.adapters.engines.mock_response import ResponseForm
from ias_inference.adapters.engines.mock_wishes import Wishes, wishes_of
from ias_inference.domain.engines import Estimate, Job, Operation, Request, Turn
from ias_inference.domain.errors import EngineFailed, Unsupported
from ias_inference.domain.models import Backend, Model

PROMPT_TOKENS = Counter(
    "ias_mock_prompt_tokens", "Prompt tokens that the mock engine read.", ["model"]
)
COMPLETION_TOKENS = Counter(
    "ias_mock_completion_tokens", "Tokens that the mock engine produced.", ["model"]
)
RUNNING = Gauge("ias_mock_running_requests", "Requests in the mock engine.", ["model"])
_BATCH = 16
"""Tokens at most that go out together when no pace is set."""
_FAIRNESS = 256
"""Tokens after which a whole answer lets other requests run."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is read out of a request once."""

    wishes: Wishes
    turns: Sequence[Turn]

    def switches(self, backend: Backend) -> Switches:
        """What holds on the backend that was chosen."""
        return mock_plan.switches_of(backend.url, self.turns)


class MockEngine:
    """Serves every backend of the kind `mock`, whatever is asked of it."""

    def check(self, backend: Backend) -> None:
        """Raises InvalidField for a switch that the mock does not have."""
        mock_plan.parse_url(backend.url)

    async def prepare(self, model: Model, request: Request) -> Estimate:
        """Exact in both respects. Raises InvalidRequest, Unsupported."""
        if request.media_field:
            raise Unsupported(model.name, "anything but text", request.media_field)
        turns = mock_plan.turns_of(request) if request.operation.generates else request.turns
        wishes = wishes_of(request)
        prepared = _Prepared(wishes, turns)
        if not request.operation.generates:
            total, largest = mock_pooling.count(request)
            return Estimate(total, exact=True, largest_prompt=largest, prepared=prepared)
        asked = model.max_output_tokens
        if request.max_tokens is not None:
            asked = min(asked, request.max_tokens)
        switches = prepared.switches(model.backend)
        answers = mock_plan.plan(request, switches, asked, wishes, turns)
        sizes = [mock_tokens.count(part) for part in request.inputs]
        return Estimate(
            prompt_tokens=sum(sizes) if sizes else mock_tokens.count_chat(turns),
            longest=max(len(answer.tokens) for answer in answers),
            exact=True,
            largest_prompt=max(sizes, default=None),
            prepared=prepared,
        )

    async def complete(self, job: Job) -> bytes:
        """The planned answers, after the time they take. Raises EngineFailed if switched so."""
        running = RUNNING.labels(job.model.name)
        running.inc()
        try:
            if not job.request.operation.generates:
                return await _pooled(job)
            answers, prepared = _planned(job)
            texts = [""] * len(answers)
            produced = _Producer(job, answers, prepared.switches(job.backend))
            while (step := produced.next()) is not None:
                if step[2] or not job.usage.completion_tokens % _FAIRNESS:
                    await asyncio.sleep(step[2])
                produced.count()
                texts[step[0]] += step[1]
            produced.count_prompt()
        finally:
            running.dec()
        return _form(job, answers, prepared).whole(texts)

    async def stream(self, job: Job) -> AsyncGenerator[list[bytes], None]:
        """The events of each token, and what ends the answer."""
        answers, prepared = _planned(job)
        form = _form(job, answers, prepared)
        running = RUNNING.labels(job.model.name)
        running.inc()
        batch: list[bytes] = []
        try:
            produced = _Producer(job, answers, prepared.switches(job.backend))
            while (step := produced.next()) is not None:
                index, text, wait_s = step
                if batch and (wait_s or job.room <= 0 or len(batch) >= _BATCH):
                    yield batch
                    batch = []
                if job.room <= 0:
                    return
                if wait_s:
                    await asyncio.sleep(wait_s)
                produced.count()
                batch += form.token(index, text)
            produced.count_prompt()
            job.ended = True
            yield batch + form.ends()
        except EngineFailed:
            if batch:
                yield batch
            raise
        finally:
            running.dec()


class _Producer:
    """Hands out the answers' tokens by turns, and counts what was produced."""

    def __init__(self, job: Job, answers: list[Answer], switches: Switches) -> None:
        self._job = job
        self._switches = switches
        self._steps = (
            (index, answer.tokens[position])
            for position in range(max(len(answer.tokens) for answer in answers))
            for index, answer in enumerate(answers)
            if position < len(answer.tokens)
        )
        self._produced = 0
        self._counter = COMPLETION_TOKENS.labels(job.model.name)

    def next(self) -> tuple[int, str, float] | None:
        """Answer, token, seconds to wait before it; None after the last. Raises EngineFailed."""
        switches, number = self._switches, self._produced + 1
        if switches.fail or (switches.fail_after and number > switches.fail_after):
            raise EngineFailed(self._job.model.name, "failed, as its switches say")
        step = next(self._steps, None)
        if step is None:
            return None
        wait_s = (switches.start_ms if number == 1 else switches.pace_ms) / 1000
        if number == switches.stall_before:
            wait_s = math.inf
        return *step, min(wait_s, 1e8)

    def count(self) -> None:
        """Counts the token handed out last, and the prompt with the first."""
        self.count_prompt()
        self._produced += 1
        self._job.usage.completion_tokens += 1
        self._counter.inc()

    def count_prompt(self) -> None:
        """Counts the prompt, once."""
        if not self._job.usage.prompt_tokens:
            _count_prompt(self._job)


async def _pooled(job: Job) -> bytes:
    prepared = job.prepared
    assert isinstance(prepared, _Prepared)
    switches = prepared.switches(job.backend)
    if switches.fail:
        raise EngineFailed(job.model.name, "failed, as its switches say")
    if switches.start_ms:
        await asyncio.sleep(switches.start_ms / 1000)
    if job.request.operation.metered:
        _count_prompt(job)
    return mock_pooling.answer(job)


def _count_prompt(job: Job) -> None:
    job.usage.prompt_tokens = job.prompt_tokens
    PROMPT_TOKENS.labels(job.model.name).inc(job.prompt_tokens)


def _planned(job: Job) -> tuple[list[Answer], _Prepared]:
    prepared = job.prepared
    assert isinstance(prepared, _Prepared)
    switches = prepared.switches(job.backend)
    planned = mock_plan.plan(job.request, switches, job.max_tokens, prepared.wishes, prepared.turns)
    return planned, prepared


def _form(job: Job, answers: list[Answer], prepared: _Prepared) -> Form:
    match job.request.operation:
        case Operation.CHAT:
            return ChatForm(job, answers, prepared.wishes)
        case Operation.RESPONSE:
            return ResponseForm(job, answers, prepared.wishes)
        case _:
            prompts = [turn.text for turn in prepared.turns]
            return CompletionForm(job, answers, prepared.wishes, prompts)
