"""The OpenAI surface. Every failure is answered in OpenAI's shape, also the unforeseen."""

import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime

import msgspec
import structlog
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import empty_pb2
from ias.inference.v1 import openai_pb2

from ias_inference.domain.engines import Request
from ias_inference.domain.errors import EngineFailed, ModelMismatch
from ias_inference.domain.models import Model, Registry
from ias_inference.domain.ports import Leases
from ias_inference.domain.serving import Serving
from ias_inference.grpc_api import (
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_events,
    openai_rerank,
    openai_responses,
    openai_tokenize,
)
from ias_inference.grpc_api.openai_errors import OpenAIError, to_openai
from ias_runtime.caller import Caller
from ias_runtime.errors import IasError
from ias_runtime.rpc import Call, as_ias_error

Parse = Callable[[bytes, str], Request]
"""Reads body and content type. Raises InvalidRequest."""
log = structlog.get_logger()

JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"
_PIECE_BYTES = 512 * 1024
"""A large answer goes out in pieces of this size: Envoy bounds the size of one message."""
_TRANSCODED = "x-envoy-original-path"
"""What Envoy adds to a request that it transcoded, and strips from what clients send."""


class OpenAI:
    """Serves ias.inference.v1.OpenAIService."""

    def __init__(self, serving: Serving, registry: Registry, leases: Leases) -> None:
        self._serving = serving
        self._registry = registry
        self._leases = leases

    async def CreateChatCompletion(self, request: HttpBody, call: Call) -> HttpBody:
        """Answers a chat, as JSON or as server-sent events."""
        return await self._answer(openai_chat.parse, request, call)

    async def CreateCompletion(self, request: HttpBody, call: Call) -> HttpBody:
        """Continues a text, as JSON or as server-sent events."""
        return await self._answer(openai_completions.parse, request, call)

    async def CreateResponse(self, request: HttpBody, call: Call) -> HttpBody:
        """Answers in the newer form, as JSON or as server-sent events."""
        return await self._answer(openai_responses.parse, request, call)

    async def CreateEmbedding(self, request: HttpBody, call: Call) -> HttpBody:
        """Turns texts into vectors."""
        return await self._answer(openai_embeddings.parse, request, call)

    async def CreateRerank(self, request: HttpBody, call: Call) -> HttpBody:
        """Orders documents by how well they answer a query."""
        return await self._answer(openai_rerank.parse_rerank, request, call)

    async def CreateScore(self, request: HttpBody, call: Call) -> HttpBody:
        """Scores pairs of texts."""
        return await self._answer(openai_rerank.parse_score, request, call)

    async def Tokenize(self, request: HttpBody, call: Call) -> HttpBody:
        """Cuts a text or a chat into the model's tokens."""
        return await self._answer(openai_tokenize.parse_tokenize, request, call)

    async def Detokenize(self, request: HttpBody, call: Call) -> HttpBody:
        """Puts tokens together into a text."""
        return await self._answer(openai_tokenize.parse_detokenize, request, call)

    async def ListModels(self, _: empty_pb2.Empty, call: Call) -> HttpBody:
        """Lists the models that the caller may use."""
        caller = call.verified
        models = self._registry.visible(caller.organization_id, caller.allowed_models)
        shown = [_shown(model) for model in models]
        listed = msgspec.json.encode({"object": "list", "data": shown})
        return await self._send(call, time.perf_counter(), listed)

    async def RetrieveModel(self, request: openai_pb2.RetrieveModelRequest, call: Call) -> HttpBody:
        """Shows one model that the caller may use."""
        started = time.perf_counter()
        try:
            model = self._registry.get(request.model, call.verified.organization_id)
        except IasError as error:
            return await self._refuse(call, started, to_openai(error))
        return await self._send(call, started, msgspec.json.encode(_shown(model)))

    async def _answer(self, parse: Parse, request: HttpBody, call: Call) -> HttpBody:
        started = time.perf_counter()
        try:
            parsed = parse(request.data, request.content_type)
            if parsed.model != call.verified.model:
                raise ModelMismatch(parsed.model, call.verified.model)
            if parsed.streamed:
                return await self._send_events(parsed, call, started)
            answer = await self._serving.complete(call.verified, call.request_id, parsed)
        except Exception as error:
            return await self._refuse(call, started, _explained(error, call))
        return await self._send(call, started, answer)

    async def _send_events(self, parsed: Request, call: Call, started: float) -> HttpBody:
        """The answer as server-sent events; several go out in one message when ready together.

        Raises what happens before the first; what happens later becomes the last event.
        """
        sent, begun = 0, b""
        operation = parsed.operation
        try:
            async with aclosing(
                self._serving.stream(call.verified, call.request_id, parsed)
            ) as batches:
                async for batch in batches:
                    if sent:
                        content_type = EVENTS
                    else:
                        content_type, begun = await self._head(call, started, EVENTS), batch[0]
                    sent += len(batch)
                    data = openai_events.joined(operation, batch)
                    await call.write(HttpBody(content_type=content_type, data=data))
        except Exception as error:
            if not sent:
                raise
            told = _explained(error, call).body
            failure = openai_events.failed(operation, told, sent, begun)
            return HttpBody(content_type=EVENTS, data=failure)
        return HttpBody(content_type=EVENTS, data=openai_events.end(operation))

    async def _send(self, call: Call, started: float, answer: bytes) -> HttpBody:
        """Sends an answer; the last piece is left to the caller, to go out with the status."""
        content_type = await self._head(call, started, JSON)
        at = 0
        while len(answer) - at > _PIECE_BYTES:
            piece = answer[at : at + _PIECE_BYTES]
            await call.write(HttpBody(content_type=content_type, data=piece))
            at += _PIECE_BYTES
        return HttpBody(content_type=content_type, data=answer[at:] if at else answer)

    async def _refuse(self, call: Call, started: float, failure: OpenAIError) -> HttpBody:
        status = ("x-ias-http-status", str(failure.status))
        headers = (status, *failure.headers, *self._headers(call, started))
        await call.context.send_initial_metadata(headers)
        return HttpBody(content_type=JSON, data=failure.body)

    async def _head(self, call: Call, started: float, content_type: str) -> str:
        """The content type of the first message, the headers of the answer with it.

        They travel behind it as `;;name=value`, from where Envoy's Lua takes them: initial metadata
        of its own would cost a write and a wake-up more (338 against 272 µs for a bare call).
        Native gRPC has no Lua, so there it is initial metadata.
        """
        headers = self._headers(call, started)
        if _TRANSCODED in call.metadata:
            return content_type + "".join([f";;{name}={value}" for name, value in headers])
        await call.context.send_initial_metadata(tuple(headers))
        return content_type

    def _headers(self, call: Call, started: float) -> list[tuple[str, str]]:
        took_ms = int((time.perf_counter() - started) * 1000)
        return [("openai-processing-ms", str(took_ms)), *self._limits(call.verified)]

    def _limits(self, caller: Caller) -> list[tuple[str, str]]:
        """x-ratelimit-* of the tightest token budget; none when none has a limit."""
        budget = self._leases.budget(caller)
        if budget is None:
            return []
        left_s = max(0, int((budget.reset_time - datetime.now(UTC)).total_seconds()))
        return [
            ("x-ratelimit-limit-tokens", str(budget.limit_tokens)),
            ("x-ratelimit-remaining-tokens", str(max(0, budget.remaining_tokens))),
            ("x-ratelimit-reset-tokens", duration(left_s)),
        ]


def duration(seconds: int) -> str:
    """As OpenAI writes durations: 6m0s, 25h3m0s, 7s."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _explained(error: Exception, call: Call) -> OpenAIError:
    """What the client is told. The log gets what it must not see."""
    known = as_ias_error(error)
    if known.reason == "INTERNAL":
        log.error("call failed", request_id=call.request_id, exc_info=error)
    elif isinstance(known, EngineFailed):
        log.warning(
            "engine failed", request_id=call.request_id, **known.metadata, cause=known.cause
        )
    return to_openai(known)


def _shown(model: Model) -> dict[str, object]:
    created = int(model.create_time.timestamp()) if model.create_time else 0
    return {"id": model.name, "object": "model", "created": created, "owned_by": "ias"}
