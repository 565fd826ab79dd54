"""The engine `mock`: deterministic text without a model, counted to the token.

Its counters say what it produced, independently of what is charged: the oracle of the fault tests.
"""

import asyncio
import math
from collections.abc import AsyncGenerator

import msgspec
from prometheus_client import Counter, Gauge

from ias_inference.adapters.engines import mock_plan
from ias_inference.adapters.engines.mock_plan import Answer, Switches
from ias_inference.domain.engines import Estimate, Job, Operation, Request
from ias_inference.domain.errors import EngineFailed, InvalidRequest, Unsupported
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

_encode = msgspec.json.encode


class MockEngine:
    """Serves every backend of the kind `mock`."""

    def check(self, backend: Backend) -> None:
        """Raises InvalidField for a switch that the mock does not have."""
        mock_plan.parse_url(backend.url)

    async def prepare(self, model: Model, request: Request) -> Estimate:
        """Exact in both respects. Raises InvalidRequest for a part that is not text."""
        if request.operation is not Operation.CHAT:
            raise Unsupported(model.name, request.operation.feature)
        if request.media_field:
            raise InvalidRequest(request.media_field, f"Model {model.name!r} reads text alone.")
        switches = mock_plan.switches_of(model.backend.url, request.turns)
        asked = min(request.max_tokens or model.max_output_tokens, model.max_output_tokens)
        answers = mock_plan.plan(request, switches, asked)
        return Estimate(
            prompt_tokens=mock_plan.count_prompt(request.turns),
            longest=max(len(answer.tokens) for answer in answers),
            exact=True,
        )

    async def complete(self, job: Job) -> bytes:
        """The planned answers, after the time they take. Raises EngineFailed if switched so."""
        answers, switches = _planned(job)
        texts = [""] * len(answers)
        running = RUNNING.labels(job.model.name)
        running.inc()
        try:
            produced = _Producer(job, answers, switches)
            while (step := produced.next()) is not None:
                if step[2] or not job.usage.completion_tokens % _FAIRNESS:
                    await asyncio.sleep(step[2])
                produced.count()
                texts[step[0]] += step[1]
        finally:
            running.dec()
        choices: list[dict[str, object]] = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": answer.finish_reason,
            }
            for index, (text, answer) in enumerate(zip(texts, answers, strict=True))
        ]
        return _encode(_object(job, "chat.completion", choices) | {"usage": _usage(job)})

    async def stream(self, job: Job) -> AsyncGenerator[list[bytes], None]:
        """A chunk for each token, one that ends each answer, and the usage if asked for."""
        answers, switches = _planned(job)
        running = RUNNING.labels(job.model.name)
        running.inc()
        begun: set[int] = set()
        batch: list[bytes] = []
        try:
            produced = _Producer(job, answers, switches)
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
                delta = {"content": text} if index in begun else _first(text)
                begun.add(index)
                batch.append(_encode(_chunk(job, index, delta, None)))
            batch += [
                _encode(_chunk(job, index, {}, answer.finish_reason))
                for index, answer in enumerate(answers)
            ]
            if job.request.include_usage:
                batch.append(
                    _encode(_object(job, "chat.completion.chunk", []) | {"usage": _usage(job)})
                )
            yield batch
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
        usage = self._job.usage
        if not usage.prompt_tokens:
            usage.prompt_tokens = self._job.prompt_tokens
            PROMPT_TOKENS.labels(self._job.model.name).inc(usage.prompt_tokens)
        self._produced += 1
        usage.completion_tokens += 1
        self._counter.inc()


def _planned(job: Job) -> tuple[list[Answer], Switches]:
    switches = mock_plan.switches_of(job.backend.url, job.request.turns)
    return mock_plan.plan(job.request, switches, job.max_tokens), switches


def _object(job: Job, kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
    return {
        "id": job.completion_id,
        "object": kind,
        "created": job.created,
        "model": job.model.name,
        "choices": choices,
    }


def _chunk(
    job: Job, index: int, delta: dict[str, str], finish_reason: str | None
) -> dict[str, object]:
    choice: dict[str, object] = {
        "index": index,
        "delta": delta,
        "logprobs": None,
        "finish_reason": finish_reason,
    }
    chunk = _object(job, "chat.completion.chunk", [choice])
    if job.request.include_usage:
        chunk["usage"] = None
    return chunk


def _first(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _usage(job: Job) -> dict[str, object]:
    usage = job.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
