"""Generation through vLLM's own serving objects: whatever they can do, a client gets.

Chats with tools, structured output, log probabilities, several answers, reasoning; completions of
several prompts; the Responses API. A request is rendered once, when it is admitted, and vLLM is
handed the result when it runs.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.utils.api_utils import get_max_tokens

from ias_inference.adapters.engines import openai_json
from ias_inference.adapters.engines.openai_events import LAST, last_kind
from ias_inference.adapters.engines.vllm import answers
from ias_inference.adapters.engines.vllm.fields import values_of
from ias_inference.adapters.engines.vllm.metered import Meter
from ias_inference.adapters.engines.vllm.process import Process
from ias_inference.adapters.engines.vllm.refusals import as_ours, refused
from ias_inference.domain.engines import Estimate, Job, Operation, Request
from ias_inference.domain.errors import ContextLengthExceeded, EngineFailed, Unsupported

_UNFINISHED = '"finish_reason":null'
"""In the chunks that are not the last of a choice: most of them need no second look."""
_GONE = "Client disconnected"
"""What vLLM makes of a cancelled request, instead of letting the cancellation pass."""
_FIELDS = {Operation.CHAT: "messages", Operation.COMPLETION: "prompt", Operation.RESPONSE: "input"}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A request as vLLM takes it, and what its renderer made of it."""

    request: Any
    rendered: Any
    inputs: list[dict[str, Any]]
    """One for each prompt; each has its token ids."""


class Generation:
    """CHAT, COMPLETION and RESPONSE by one vLLM's serving objects."""

    def __init__(self, process: Process, salt_of: Callable[[str], str]) -> None:
        self._process = process
        self._salt_of = salt_of
        self._rendered: dict[int, Any] = {}
        """By the id of vLLM's request: what its renderer need not do again."""

    def open(self) -> None:
        """Takes vLLM's serving objects in hand. The process has been started."""
        state = self._process.state
        self._chat: Any = getattr(state, "openai_serving_chat", None)
        self._completion: Any = getattr(state, "openai_serving_completion", None)
        self._responses: Any = getattr(state, "openai_serving_responses", None)
        self._context = self._process.llm.model_config.max_model_len
        online = state.online_renderer
        for name in ("render_chat", "render_completion", "render_responses"):
            setattr(online, name, self._once(getattr(online, name)))
        self._online = online

    def _once(self, render: Callable[..., Any]) -> Callable[..., Any]:
        async def rendered(request: Any, **options: Any) -> Any:
            known = self._rendered.pop(id(request), None)
            return known if known is not None else await render(request, **options)

        return rendered

    async def prepare(self, model: str, request: Request) -> Estimate:
        """Renders it. Raises InvalidRequest, Unsupported, EngineRefused, EngineFailed."""
        operation = request.operation
        serving = self._serving(operation)
        if serving is None:
            raise Unsupported(model, operation.feature)
        try:
            asked = self._asked(request)
            rendered = await self._render(asked)
        except Exception as error:
            raise as_ours(error, model) from error
        if isinstance(rendered, ErrorResponse):
            raise refused(rendered, model)
        inputs = _inputs_of(rendered)
        sizes = [len(given["prompt_token_ids"]) for given in inputs]
        most = request.max_tokens
        if most is None and operation is Operation.COMPLETION:
            most = asked.max_tokens
        largest = max(sizes)
        least = 1 if most is None else most
        if largest + least > self._context:
            raise ContextLengthExceeded(self._context, largest, least, _FIELDS[operation])
        longest = get_max_tokens(
            self._context, most, largest, serving.default_sampling_params, _override_of(serving)
        )
        return Estimate(
            sum(sizes),
            longest=longest,
            exact=True,
            largest_prompt=largest if len(sizes) > 1 else None,
            prepared=Rendered(asked, rendered, inputs),
        )

    def _serving(self, operation: Operation) -> Any:
        if operation is Operation.CHAT:
            return self._chat
        return self._completion if operation is Operation.COMPLETION else self._responses

    def _asked(self, request: Request) -> Any:
        """The request as vLLM's own type. Raises pydantic's ValidationError."""
        fields = values_of(request.body)
        fields["model"] = self._process.names[0]
        fields["stream"] = request.streamed
        fields.pop("stream_options", None)
        match request.operation:
            case Operation.CHAT:
                if request.streamed:
                    fields["stream_options"] = {"include_usage": request.include_usage}
                return ChatCompletionRequest(**fields)
            case Operation.COMPLETION:
                if request.streamed:
                    fields["stream_options"] = {"include_usage": request.include_usage}
                return CompletionRequest(**fields)
            case _:
                return ResponsesRequest(**fields)

    async def _render(self, asked: Any) -> Any:
        """With the answer's length left open: that is bounded when it is admitted."""
        online = self._online
        match asked:
            case ChatCompletionRequest():
                asked.max_tokens = asked.max_completion_tokens = None
                return await online.render_chat(asked)
            case CompletionRequest():
                most, asked.max_tokens = asked.max_tokens, None
                try:
                    return await online.render_completion(asked)
                finally:
                    asked.max_tokens = most
            case _:
                asked.max_output_tokens = None
                return await online.render_responses(asked, tool_server=self._responses.tool_server)

    async def complete(self, job: Job) -> bytes:
        """The whole answer. Raises EngineRefused, EngineFailed."""
        with self._running(job) as asked:
            try:
                answer = await self._create(job, asked)
            except Exception as error:
                raise as_ours(error, job.model.name) from error
        if isinstance(answer, ErrorResponse):
            _raise_if_cancelled(answer)
            raise refused(answer, job.model.name)
        return answers.shown(openai_json.object_of(_json_of(answer)), job)

    async def stream(self, job: Job) -> AsyncGenerator[list[bytes], None]:
        """The events; see Engine.stream."""
        with self._running(job) as asked:
            try:
                events = await self._create(job, asked)
            except Exception as error:
                raise as_ours(error, job.model.name) from error
            if isinstance(events, ErrorResponse):
                _raise_if_cancelled(events)
                raise refused(events, job.model.name)
            shown = _response_event if job.request.operation is Operation.RESPONSE else _chunk
            unfinished = set(range(job.request.answers))
            async with aclosing(events):
                try:
                    async for event in events:
                        chunk = shown(event, job, unfinished)
                        job.ended = not unfinished
                        if chunk is not None:
                            yield [chunk]
                except Exception as error:
                    raise as_ours(error, job.model.name) from error

    async def _create(self, job: Job, asked: Any) -> Any:
        match asked:
            case ChatCompletionRequest():
                return await self._chat.create_chat_completion(asked, None)
            case CompletionRequest():
                return await self._completion.create_completion(asked, None)
            case _:
                return await self._responses.create_responses(asked, None)

    @contextmanager
    def _running(self, job: Job) -> Iterator[Any]:
        """The request as admitted, counted while it runs."""
        prepared = job.prepared
        assert isinstance(prepared, Rendered)
        asked = prepared.request
        key = job.completion_id.partition("-")[2] or job.completion_id.partition("_")[2]
        asked.request_id = key
        match asked:
            case ChatCompletionRequest():
                asked.max_completion_tokens = job.max_tokens
            case CompletionRequest():
                asked.max_tokens = job.max_tokens
            case _:
                asked.max_output_tokens = job.max_tokens
                asked.request_id = job.completion_id
        salt = asked.cache_salt = self._salt_of(job.usage.organization_id)
        for given in prepared.inputs:
            given["cache_salt"] = salt
        meters = self._process.client.meters
        meters[key] = Meter(job.usage)
        self._rendered[id(asked)] = prepared.rendered
        try:
            yield asked
        finally:
            self._rendered.pop(id(asked), None)
            del meters[key]


def _override_of(serving: Any) -> int | None:
    found: int | None = getattr(serving, "override_max_tokens", None)
    return found


def _inputs_of(rendered: Any) -> list[dict[str, Any]]:
    """The engine's inputs, from what each renderer answers."""
    if isinstance(rendered, tuple):
        return list(rendered[1])
    if isinstance(rendered, list):
        return rendered
    return [rendered.engine_input]


def _json_of(answer: Any) -> bytes:
    if isinstance(answer, msgspec.Struct):
        return answers.encode(answer)
    text: str = answer.model_dump_json(by_alias=True)
    return text.encode()


def _raise_if_cancelled(answer: ErrorResponse) -> None:
    if answer.error.message == _GONE:
        raise asyncio.CancelledError


def _chunk(event: str, job: Job, unfinished: set[int]) -> bytes | None:
    """The payload of one of vLLM's server-sent events; None for the end. Raises EngineFailed.

    Takes the answers that end with it from `unfinished`.
    """
    payload = event.removeprefix("data: ").strip()
    if payload == "[DONE]":
        return None
    chunk = openai_json.object_of(payload)
    if "error" in chunk:
        message, _ = openai_json.error_message(payload.encode())
        raise EngineFailed(job.model.name, "broke off its answer", message)
    if _UNFINISHED not in payload:
        choices = openai_json.choices_of(chunk["choices"])
        unfinished.difference_update(one.index for one in choices if one.finish_reason)
    return answers.shown(chunk, job)


def _response_event(event: Any, job: Job, unfinished: set[int]) -> bytes:
    """One event of the Responses API, name and data; empties `unfinished` with the last."""
    data: dict[str, Any] = openai_json.object_of(_json_of(event))
    kind: str = event.type
    if "response" in data:
        response = openai_json.object_of(data["response"])
        kind = last_kind(kind, response)
        data["type"], data["response"] = kind, Raw(answers.shown(response, job))
    if kind in LAST:
        unfinished.clear()
    return b"event: " + kind.encode() + b"\ndata: " + answers.encode(data)
