"""Typed text completions for gRPC clients."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime

import msgspec
from ias.inference.v1 import completions_pb2 as pb

from ias_inference.domain.engines import Operation, Request
from ias_inference.domain.errors import InvalidRequest
from ias_inference.domain.serving import Serving
from ias_inference.grpc_api import typed
from ias_inference.grpc_api.openai_completions import DEFAULT_MAX_TOKENS
from ias_runtime.fields import to_timestamp
from ias_runtime.rpc import Call


class _Choice(msgspec.Struct):
    text: str = ""
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    """A completion or a chunk of one."""

    id: str
    created: int
    choices: list[_Choice]
    usage: typed.Usage | None = None


_answer = msgspec.json.Decoder(_Answer)


class CompletionApi:
    """Serves ias.inference.v1.CompletionService."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def Complete(self, request: pb.CompleteRequest, call: Call) -> pb.CompleteResponse:
        """Continues a text in one message."""
        asked = _to_request(request, call)
        whole = await self._serving.complete(call.verified, call.request_id, asked)
        answer = typed.read(_answer, whole, asked)
        choice = answer.choices[0] if answer.choices else _Choice()
        return pb.CompleteResponse(
            id=answer.id,
            model=asked.model,
            create_time=to_timestamp(datetime.fromtimestamp(answer.created, UTC)),
            text=choice.text,
            finish_reason=typed.finish(choice.finish_reason),
            usage=answer.usage.message() if answer.usage else None,
        )

    async def StreamComplete(
        self, request: pb.StreamCompleteRequest, call: Call
    ) -> AsyncIterator[pb.StreamCompleteResponse]:
        """Continues a text piece by piece."""
        asked = _to_request(request, call)
        asked.streamed = asked.include_usage = True
        async with aclosing(self._serving.stream(call.verified, call.request_id, asked)) as batches:
            async for batch in batches:
                for chunk in batch:
                    yield _piece(typed.read(_answer, chunk, asked), asked)


def _to_request(request: pb.CompleteRequest | pb.StreamCompleteRequest, call: Call) -> Request:
    """The request as the domain takes it. Raises InvalidRequest, ModelMismatch."""
    typed.check_model(request.model, call)
    prompt: str | list[int]
    match request.WhichOneof("prompt"):
        case "text":
            prompt = request.text
        case "tokens":
            prompt = list(request.tokens.ids)
            if not prompt or min(prompt) < 0:
                raise InvalidRequest("tokens", "tokens: at least 1, none negative")
        case _:
            raise InvalidRequest("prompt", "prompt: text or tokens required")
    given = request.parameters
    body: dict[str, object] = {"prompt": prompt, **typed.sampling(given)}
    if given.suffix:
        body["suffix"] = given.suffix
    if given.echo:
        body["echo"] = True
    asked = typed.optional(given, "max_tokens")
    return Request(
        operation=Operation.COMPLETION,
        model=request.model,
        inputs=[prompt],
        body=body,
        size_bytes=request.ByteSize(),
        max_tokens=DEFAULT_MAX_TOKENS if asked is None else asked,
        seed=typed.optional(given, "seed"),
        stop=list(given.stop),
    )


def _piece(chunk: _Answer, asked: Request) -> pb.StreamCompleteResponse:
    choice = chunk.choices[0] if chunk.choices else _Choice()
    return pb.StreamCompleteResponse(
        id=chunk.id,
        model=asked.model,
        text=choice.text,
        finish_reason=typed.finish(choice.finish_reason),
        usage=chunk.usage.message() if chunk.usage else None,
    )
