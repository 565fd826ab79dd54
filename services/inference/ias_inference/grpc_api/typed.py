"""What the typed services share: parameters, finish reasons, usage, reading an engine's JSON."""

from typing import Any, TypeVar

import msgspec
from google.protobuf.message import Message
from ias.inference.v1 import chat_pb2

from ias_inference.domain.engines import Request
from ias_inference.domain.errors import EngineFailed, InvalidRequest, ModelMismatch
from ias_inference.grpc_api.openai_body import MAX_INT
from ias_runtime.rpc import Call

_FINISHES = {
    "stop": chat_pb2.FINISH_REASON_STOP,
    "length": chat_pb2.FINISH_REASON_LENGTH,
    "content_filter": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "tool_calls": chat_pb2.FINISH_REASON_TOOL_CALLS,
    "function_call": chat_pb2.FINISH_REASON_TOOL_CALLS,
}
_BOUNDS: dict[str, tuple[float, float]] = {
    "max_tokens": (1, MAX_INT),
    "temperature": (0, 2),
    "top_p": (0, 1),
    "seed": (-(2**63), 2**63 - 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
A = TypeVar("A")


class _CachedTokens(msgspec.Struct):
    cached_tokens: int | None = 0


class Usage(msgspec.Struct):
    """`usage` of an engine's answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _CachedTokens | None = None

    def message(self) -> chat_pb2.ChatUsage:
        """As the contract has it."""
        details = self.prompt_tokens_details
        return chat_pb2.ChatUsage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            total_tokens=self.prompt_tokens + self.completion_tokens,
            cached_tokens=(details.cached_tokens or 0) if details else 0,
        )


def check_model(model: str, call: Call) -> None:
    """Raises InvalidRequest, ModelMismatch."""
    if not model:
        raise InvalidRequest("model", "model: required")
    if model != call.verified.model:
        raise ModelMismatch(model, call.verified.model)


def sampling(given: Any) -> dict[str, object]:
    """The parameters that are set, for the engine. Raises InvalidRequest."""
    body: dict[str, object] = {}
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
    return body


def optional(message: Message, field: str) -> Any:
    """The value of an optional field; None when it is unset."""
    return getattr(message, field) if message.HasField(field) else None


def json_of(field: str, text: str, most_bytes: int) -> Any:
    """What a field's JSON says. Raises InvalidRequest."""
    if len(text.encode()) > most_bytes:
        raise InvalidRequest(field, f"{field}: at most {most_bytes} bytes")
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest(field, f"{field}: not valid JSON") from None


def read(decoder: "msgspec.json.Decoder[A]", answer: bytes, asked: Request) -> A:
    """An engine's answer, typed. Raises EngineFailed when it makes no sense."""
    try:
        return decoder.decode(answer)
    except (msgspec.DecodeError, ValueError) as error:
        raise EngineFailed(asked.model, "gave an answer that makes no sense", repr(error)) from None


def finish(reason: str | None) -> chat_pb2.FinishReason.ValueType:
    """Why an answer ended; unspecified for one that has not."""
    return _FINISHES.get(reason or "", chat_pb2.FINISH_REASON_UNSPECIFIED)


def converted(kind: type[A], field: str, value: object) -> A:
    """A decoded value in a body's type. Raises InvalidRequest naming the field of the contract."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(field, f"{field}: {error}") from None
