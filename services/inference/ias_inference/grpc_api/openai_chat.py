"""The body of POST /v1/chat/completions."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from ias_inference.domain.engines import Operation, Request, Turn
from ias_inference.domain.errors import InvalidRequest
from ias_inference.grpc_api import openai_bounds, openai_sampling
from ias_inference.grpc_api.openai_body import (
    Count,
    Label,
    Reader,
    include_usage,
)
from ias_inference.grpc_api.openai_messages import Message, media_field, text_of

MAX_TOOLS_BYTES = 512 * 1024
MAX_TEMPLATE_BYTES = 16_384


class FunctionDefinition(Struct):
    """What a tool is."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(Struct):
    """Something that the model may call."""

    type: Literal["function"]
    function: FunctionDefinition


class Body(openai_sampling.Sampling, kw_only=True):
    """The whole body."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=16_384)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[FunctionDefinition], Meta(max_length=128)] | None = None
    function_call: str | dict[str, Any] | None = None
    reasoning_effort: Label | None = None
    verbosity: Label | None = None
    modalities: Annotated[list[Literal["text", "audio"]], Meta(max_length=2)] | None = None
    audio: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    # Reaches into the template: refused later, unless the model's registration allows it.
    chat_template_kwargs: dict[str, Any] | None = None


_OPEN = frozenset(
    {
        "tool_choice", "function_call", "audio", "prediction", "web_search_options",
        "chat_template_kwargs",
    }
)  # fmt: skip
"""Fields that nothing but the engine looks into."""
_reader = Reader(
    Body,
    most_bytes={
        **openai_sampling.MOST_BYTES,
        "tools": MAX_TOOLS_BYTES,
        "functions": MAX_TOOLS_BYTES,
        "tool_choice": openai_sampling.MAX_SCHEMA_BYTES,
        "function_call": openai_sampling.MAX_SCHEMA_BYTES,
        "chat_template_kwargs": MAX_TEMPLATE_BYTES,
    },
)


def parse(data: bytes, content_type: str) -> Request:
    """The request. Raises InvalidRequest."""
    body, fields = _reader.read(data, content_type)
    openai_sampling.check(body)
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequest("top_logprobs", "'top_logprobs' needs 'logprobs' to be true.")
    if body.tools or body.functions:
        openai_bounds.check_schemas(_parameters(body))
    for name in _OPEN & fields.keys():
        openai_bounds.check_size(name, getattr(body, name))
    return Request(
        operation=Operation.CHAT,
        model=body.model,
        streamed=bool(body.stream),
        turns=[Turn(message.role, text_of(message)) for message in body.messages],
        body=_reader.forward(fields),
        size_bytes=len(data),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        n=body.n or 1,
        seed=body.seed,
        stop=openai_sampling.stops_of(body),
        json_object=openai_sampling.wants_json(body),
        media_field=media_field(body.messages),
        include_usage=include_usage(body),
    )


def _parameters(body: Body) -> Iterator[tuple[str, object]]:
    """The schemas of what may be called, each with the path of its field."""
    for i, tool in enumerate(body.tools or ()):
        yield f"tools[{i}].function.parameters", tool.function.parameters
    for i, function in enumerate(body.functions or ()):
        yield f"functions[{i}].parameters", function.parameters
