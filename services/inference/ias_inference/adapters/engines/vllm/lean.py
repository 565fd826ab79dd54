"""Plain chats and completions, straight on the engine core's outputs.

vLLM's server spends more than half of a small request on its own front end: request and answer
types, one task, one event and one HTTP message per token. For requests that only choose among
tokens all of that can be left out, with the same answers (tests/inference/vllm compares the two).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from msgspec import Raw
from vllm.entrypoints.serve.utils.api_utils import get_max_tokens
from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind

from ias_inference.adapters.engines.vllm import answers
from ias_inference.adapters.engines.vllm.pieces import Pace, Pieces
from ias_inference.adapters.engines.vllm.process import Process
from ias_inference.adapters.engines.vllm.refusals import as_ours
from ias_inference.adapters.engines.vllm.rendering import Rendering, messages_of
from ias_inference.adapters.engines.vllm.sampling import PLAIN, Sampling
from ias_inference.domain.engines import Estimate, Job, Operation, Request
from ias_inference.domain.errors import ContextLengthExceeded, EngineFailed

_COMMON = PLAIN | {"model", "n", "max_tokens", "stream", "stream_options"}
_CHAT = _COMMON | {"messages", "max_completion_tokens"}
_COMPLETION = _COMMON | {"prompt"}
_NULL = b"null"
_DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's, for a completion that says nothing."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plain request's prompt."""

    token_ids: list[int]


class Lean:
    """The short way through one vLLM."""

    def __init__(self, process: Process, salt_of: Callable[[str], str]) -> None:
        self._process = process
        self._salt_of = salt_of
        self._pace = Pace()
        self._aborts: set[Any] = set()

    async def open(self) -> None:
        """Prepares what serves every request. The process has been started."""
        process = self._process
        state, llm = process.state, process.llm
        chat = state.openai_serving_chat
        self._llm, self._tasks = llm, process.tasks
        self._defaults = chat.default_sampling_params
        self._override = chat.override_max_tokens
        self._context = llm.model_config.max_model_len
        self._sampling = Sampling(self._defaults)
        self._rendering = Rendering(state.online_renderer)
        await self._rendering.open()
        # A reasoning parser takes answers apart; the parser of tools leaves plain ones alone.
        self._chats = self._rendering.chats and not chat._include_reasoning_tokens_details
        self._texts = self._rendering.texts
        llm._run_output_handler()

    async def prepare(self, request: Request) -> Estimate | None:
        """The prompt, counted; None for a request that is not plain. Raises InvalidRequest."""
        if request.n != 1:
            return None
        if request.operation is Operation.CHAT:
            ids = await self._chat(request) if self._chats else None
        elif request.operation is Operation.COMPLETION:
            ids = await self._completion(request) if self._texts else None
        else:
            ids = None
        if ids is None:
            return None
        asked = request.max_tokens
        if asked is None and request.operation is Operation.COMPLETION:
            asked = _DEFAULT_COMPLETION_TOKENS
        field = "messages" if request.operation is Operation.CHAT else "prompt"
        if len(ids) + (asked or 1) > self._context:
            raise ContextLengthExceeded(self._context, len(ids), asked or 1, field)
        longest = get_max_tokens(self._context, asked, len(ids), self._defaults, self._override)
        return Estimate(len(ids), longest=longest, exact=True, prepared=Prepared(ids))

    async def _chat(self, request: Request) -> list[int] | None:
        body = request.body
        if not _all_plain(body, _CHAT):
            return None
        messages = messages_of(body["messages"])
        if not messages:
            return None
        self._check_length(sum(len(message.content) for message in messages), "messages", request)
        try:
            return await self._rendering.chat(messages)
        except Exception:
            return None  # vLLM's own way says what the template finds wrong

    async def _completion(self, request: Request) -> list[int] | None:
        if len(request.inputs) != 1 or not _all_plain(request.body, _COMPLETION):
            return None
        (prompt,) = request.inputs
        if not prompt or request.max_tokens == 0:
            return None
        if not isinstance(prompt, str):
            return list(prompt)
        self._check_length(len(prompt), "prompt", request)
        return await self._rendering.tokens(prompt, special=True)

    def _check_length(self, characters: int, field: str, request: Request) -> None:
        """Refuses what can't fit before it costs the time to count it."""
        if characters > self._rendering.max_characters:
            least = characters * self._context // self._rendering.max_characters
            raise ContextLengthExceeded(self._context, least, request.max_tokens or 1, field)

    async def complete(self, job: Job) -> bytes:
        """The whole answer. Raises EngineRefused, EngineFailed."""
        pieces = Pieces()
        request_id = await self._start(job, pieces, RequestOutputKind.FINAL_ONLY)
        try:
            await pieces.ready()
        except Exception as error:
            raise as_ours(error, job.model.name) from error
        finally:
            if pieces.finish_reason is None:
                self._abort(request_id)  # which puts what was produced until now
            self._note(job, pieces, pieces.produced)
        text, _ = pieces.take(pieces.produced)
        return answers.whole(job, text, self._reason(job, pieces), pieces.stop_reason)

    async def stream(self, job: Job) -> AsyncGenerator[list[bytes], None]:
        """The chunks; see Engine.stream."""
        pace = self._pace
        pieces = Pieces(pace)
        request_id = await self._start(job, pieces, RequestOutputKind.DELTA)
        chunks = answers.Chunks(job)
        batch: list[bytes] = chunks.opening()
        delivered = 0
        pace.streams += 1
        try:
            while not pieces.done:
                try:
                    await pieces.ready()
                except Exception as error:
                    raise as_ours(error, job.model.name) from error
                text, tokens = pieces.take(max(1, job.room))
                delivered += tokens
                self._note(job, pieces, delivered)
                if pieces.done:
                    job.ended = True
                    reason = self._reason(job, pieces)
                    batch.append(chunks.last(text, reason, pieces.stop_reason))
                    if job.request.include_usage:
                        batch.append(chunks.usage(job))
                elif text:
                    batch.append(chunks.text(text))
                if batch:
                    yield batch
                    batch = []
        finally:
            pace.streams -= 1
            pace.forget(pieces)
            if pieces.finish_reason is None:
                self._abort(request_id)
            if not pieces.done:
                # Produced, but not sent any more: charged as far as it was drawn.
                self._note(job, pieces, min(pieces.produced, delivered + max(0, job.room)))

    async def _start(self, job: Job, pieces: Pieces, kind: RequestOutputKind) -> str:
        """Hands the request to the engine core; the id that vLLM knows it by."""
        llm = self._llm
        if llm.errored:
            raise EngineFailed(job.model.name, "has died")
        prepared = job.prepared
        assert isinstance(prepared, Prepared)
        try:
            params = self._sampling.params(job.request.body, job.max_tokens, kind)
            prompt = tokens_input(
                prepared.token_ids, cache_salt=self._salt_of(job.usage.organization_id)
            )
            request = llm.input_processor.process_inputs(
                job.completion_id, prompt, params, supported_tasks=self._tasks
            )
            llm.input_processor.assign_request_id(request)
            llm.check_admission(request_id=request.request_id)
            llm.output_processor.add_request(request, None, None, 0, pieces)
        except Exception as error:
            raise as_ours(error, job.model.name) from error
        request_id: str = request.request_id
        try:
            await llm.engine_core.add_request_async(request)
        except BaseException:
            self._abort(request_id)
            raise
        return request_id

    def _abort(self, request_id: str) -> None:
        """Stops the engine on it; what it has produced until now is put before this returns."""
        llm = self._llm
        if llm.errored:
            return
        ended = llm.output_processor.abort_requests([request_id], internal=True)
        task = asyncio.ensure_future(llm.engine_core.abort_requests_async(ended))
        self._aborts.add(task)
        task.add_done_callback(self._aborts.discard)

    def _note(self, job: Job, pieces: Pieces, tokens: int) -> None:
        usage = job.usage
        usage.completion_tokens = tokens
        if pieces.produced:
            usage.prompt_tokens = job.prompt_tokens
            usage.cached_tokens = pieces.cached_tokens

    @staticmethod
    def _reason(job: Job, pieces: Pieces) -> str:
        """Why it ended, in OpenAI's words. Raises EngineFailed when the engine broke it off."""
        reason = pieces.finish_reason or "stop"
        if reason in ("abort", "error"):
            raise EngineFailed(job.model.name, "broke off its answer", reason)
        return reason


def _all_plain(body: Any, allowed: frozenset[str]) -> bool:
    """Whether all fields are plain, or say nothing."""
    return body.keys() <= allowed or all(
        _says_nothing(body[name]) for name in body.keys() - allowed
    )


def _says_nothing(value: object) -> bool:
    return value is None or (isinstance(value, Raw) and bytes(value) in (_NULL, b"false"))
