"""Typed chat for gRPC clients: the same rules and the same accounting as the OpenAI surface."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Literal

import msgspec
from ias.inference.v1 import chat_pb2 as pb

from ias_inference.domain.engines import Operation, Request, Turn
from ias_inference.domain.errors import EngineFailed, InvalidRequest, ModelMismatch
from ias_inference.domain.serving import Serving
from ias_inference.grpc_api.openai_body import MAX_INT
from ias_runtime.fields import to_timestamp
from ias_runtime.rpc import Call

_ROLES = {
    pb.CHAT_ROLE_SYSTEM: "system",
    pb.CHAT_ROLE_USER: "user",
    pb.CHAT_ROLE_ASSISTANT: "assistant",
}
_FINISHES = {
    "stop": pb.FINISH_REASON_STOP,
    "length": pb.FINISH_REASON_LENGTH,
    "content_filter": pb.FINISH_REASON_CONTENT_FILTER,
    "tool_calls": pb.FINISH_REASON_TOOL_CALLS,
    "function_call": pb.FINISH_REASON_TOOL_CALLS,
}
_Bounded = Literal[
    "max_tokens", "temperature", "top_p", "seed", "presence_penalty", "frequency_penalty"
]
_BOUNDS: dict[_Bounded, tuple[float, float]] = {
    "max_tokens": (1, MAX_INT),
    "temperature": (0, 2),
    "top_p": (0, 1),
    "seed": (-(2**63), 2**63 - 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}


class _CachedTokens(msgspec.Struct):
    cached_tokens: int | None = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _CachedTokens | None = None


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    """A completion or a chunk of one."""

    id: str
    created: int
    choices: list[_Choice]
    usage: _Usage | None = None


_answer_of = msgspec.json.Decoder(_Answer).decode


class ChatApi:
    """Serves ias.inference.v1.ChatService."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def Chat(self, request: pb.ChatRequest, call: Call) -> pb.ChatResponse:
        """Answers a chat in one message."""
        asked = _to_request(request, call)
        answer = _read(await self._serving.complete(call.verified, call.request_id, asked), asked)
        choice = answer.choices[0] if answer.choices else _Choice()
        content = choice.message.content if choice.message else None
        return pb.ChatResponse(
            id=answer.id,
            model=asked.model,
            create_time=to_timestamp(datetime.fromtimestamp(answer.created, UTC)),
            message=pb.ChatMessage(role=pb.CHAT_ROLE_ASSISTANT, content=content or ""),
            finish_reason=_finish(choice),
            usage=_usage(answer.usage) if answer.usage else None,
        )

    async def StreamChat(
        self, request: pb.StreamChatRequest, call: Call
    ) -> AsyncIterator[pb.StreamChatResponse]:
        """Answers a chat piece by piece."""
        asked = _to_request(request, call)
        asked.streamed = asked.include_usage = True
        async with aclosing(self._serving.stream(call.verified, call.request_id, asked)) as batches:
            async for batch in batches:
                for chunk in batch:
                    yield _piece(_read(chunk, asked), asked)


def _to_request(request: pb.ChatRequest | pb.StreamChatRequest, call: Call) -> Request:
    """The request as the domain takes it. Raises InvalidRequest, ModelMismatch."""
    if not request.model:
        raise InvalidRequest("model", "model: required")
    if request.model != call.verified.model:
        raise ModelMismatch(request.model, call.verified.model)
    messages = _messages(request.messages)
    body: dict[str, object] = {"messages": messages}
    given = request.parameters
    for field, (least, most) in _BOUNDS.items():
        if given.HasField(field):
            value = getattr(given, field)
            if not least <= value <= most:
                raise InvalidRequest(
                    f"parameters.{field}", f"parameters.{field}: must be {least} to {most}"
                )
            body[field] = value
    stop = list(given.stop)
    if len(stop) > 4 or not all(stop):
        raise InvalidRequest("parameters.stop", "parameters.stop: at most 4, none empty")
    if stop:
        body["stop"] = stop
    return Request(
        operation=Operation.CHAT,
        model=request.model,
        turns=[Turn(message["role"], message["content"]) for message in messages],
        body=body,
        size_bytes=request.ByteSize(),
        max_tokens=given.max_tokens if given.HasField("max_tokens") else None,
        seed=given.seed if given.HasField("seed") else None,
        stop=stop,
    )


def _messages(turns: Sequence[pb.ChatMessage]) -> list[dict[str, str]]:
    if not turns:
        raise InvalidRequest("messages", "messages: at least 1")
    messages = []
    for index, turn in enumerate(turns):
        role = _ROLES.get(turn.role)
        if role is None:
            raise InvalidRequest(f"messages[{index}].role", f"messages[{index}].role: required")
        message = {"role": role, "content": turn.content}
        if turn.name:
            message["name"] = turn.name
        messages.append(message)
    return messages


def _read(answer: bytes, asked: Request) -> _Answer:
    try:
        return _answer_of(answer)
    except (msgspec.DecodeError, ValueError) as error:
        raise EngineFailed(asked.model, "gave an answer that makes no sense", repr(error)) from None


def _piece(chunk: _Answer, asked: Request) -> pb.StreamChatResponse:
    choice = chunk.choices[0] if chunk.choices else _Choice()
    content = choice.delta.content if choice.delta else None
    return pb.StreamChatResponse(
        id=chunk.id,
        model=asked.model,
        content=content or "",
        finish_reason=_finish(choice),
        usage=_usage(chunk.usage) if chunk.usage else None,
    )


def _finish(choice: _Choice) -> pb.FinishReason.ValueType:
    return _FINISHES.get(choice.finish_reason or "", pb.FINISH_REASON_UNSPECIFIED)


def _usage(usage: _Usage) -> pb.ChatUsage:
    details = usage.prompt_tokens_details
    return pb.ChatUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        cached_tokens=(details.cached_tokens or 0) if details else 0,
    )
