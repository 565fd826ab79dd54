"""An engine client for vLLM's serving objects that counts what passes through it.

Counting the engine's own outputs, not the answers made from them, is exact whatever the operation,
and also for what was produced but never sent because the client had left.
"""

import re
from collections.abc import AsyncGenerator
from typing import Any

from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from ias_inference.domain.usage import Usage

_KEY = re.compile(r"[0-9a-f]{32}")
"""What a request is found by in the ids that vLLM makes of its own: `chatcmpl-…`, `cmpl-…-0`."""


class Meter:
    """Counts one request's outputs into its usage; it may have several prompts and answers."""

    __slots__ = ("_answers", "_prompts", "_usage")

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._prompts: dict[str, int] = {}
        self._answers: dict[tuple[str, int], int] = {}

    def note(self, request_id: str, output: RequestOutput, *, delta: bool) -> None:
        """Adds a delta, or takes over the totals so far."""
        usage = self._usage
        if request_id not in self._prompts:
            self._prompts[request_id] = len(output.prompt_token_ids or ())
            usage.prompt_tokens = sum(self._prompts.values())
            usage.cached_tokens += output.num_cached_tokens or 0
        for answer in output.outputs:
            key = (request_id, answer.index)
            count = len(answer.token_ids)
            self._answers[key] = self._answers.get(key, 0) + count if delta else count
        usage.completion_tokens = sum(self._answers.values())


class MeteredClient:
    """Stands for the AsyncLLM towards vLLM's serving objects."""

    def __init__(self, llm: AsyncLLM) -> None:
        self._llm = llm
        self.meters: dict[str, Meter] = {}
        """By the key in the request's id; whoever runs a request puts its meter here."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    async def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        """As AsyncLLM.generate; aborts when closed early, and counts what was produced by then."""
        found = _KEY.search(request_id)
        meter = self.meters.get(found[0]) if found else None
        delta = sampling_params.output_kind is RequestOutputKind.DELTA
        queue = await self._llm.add_request(request_id, prompt, sampling_params, **options)
        finished = False
        try:
            while not finished:
                output = queue.get_nowait() or await queue.get()
                assert isinstance(output, RequestOutput)
                finished = output.finished
                if meter is not None:
                    meter.note(request_id, output, delta=delta)
                yield output
        finally:
            queue.close()
            if not finished and not self._llm.errored:
                # The abort puts a last output with what was produced and not taken yet.
                await self._llm.abort(queue.request_id, internal=True)
                rest = queue.output
                if meter is not None and isinstance(rest, RequestOutput):
                    meter.note(request_id, rest, delta=delta)
