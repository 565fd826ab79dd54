"""The body of POST /v1/responses, as far as it needs no memory: IAS keeps no response.

What refers to something kept (`previous_response_id`, `conversation`, `prompt`, `item_reference`,
file ids) or runs elsewhere (`background`, built-in tools) is refused. `store` has no effect.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from ias_inference.domain.engines import Operation, Request, Turn
from ias_inference.domain.errors import InvalidRequest
from ias_inference.grpc_api import openai_bounds
from ias_inference.grpc_api.openai_body import (
    ENVELOPE,
    Count,
    Label,
    Reader,
    Streamed,
    missing,
)
from ias_inference.grpc_api.openai_chat import MAX_TOOLS_BYTES
from ias_inference.grpc_api.openai_sampling import MAX_SCHEMA_BYTES


class InputText(Struct, tag="input_text", tag_field="type"):
    """Text of a person or a system."""

    text: str


class OutputText(Struct, tag="output_text", tag_field="type"):
    """Text of the model, given back."""

    text: str


class ReasoningText(Struct, tag="reasoning_text", tag_field="type"):
    """Reasoning of the model, given back."""

    text: str


class Refusal(Struct, tag="refusal", tag_field="type"):
    """A refusal of the model, given back."""

    refusal: str


class InputImage(Struct, tag="input_image", tag_field="type"):
    """An image; data: URLs alone, nothing is fetched or kept."""

    image_url: str
    detail: Label | None = None


Part = InputText | OutputText | ReasoningText | Refusal | InputImage
Content = str | Annotated[list[Part], Meta(min_length=1, max_length=4096)]


class Item(Struct):
    """One item of the input. Fields beyond these pass to the engine as they are."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Content | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: Content | None = None


class FunctionTool(Struct):
    """Something that the model may call."""

    type: Literal["function"]
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Format(Struct):
    """What form the answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    schema: dict[str, Any] | None = None


class Text(Struct):
    """How text is answered."""

    format: Format | None = None
    verbosity: Label | None = None


class Body(Streamed, kw_only=True):
    """The whole body."""

    input: str | Annotated[list[Item], Meta(min_length=1, max_length=16_384)]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    max_tool_calls: Count | None = None
    parallel_tool_calls: bool | None = None
    reasoning: dict[str, Any] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    text: Text | None = None
    tool_choice: str | dict[str, Any] | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=128)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: Annotated[list[Label], Meta(max_length=16)] | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None


_STATEFUL = ("previous_response_id", "conversation", "prompt", "background")
_OPEN = frozenset({"reasoning", "tool_choice"})
_reader = Reader(
    Body,
    (ENVELOPE - {"metadata"}) | frozenset(_STATEFUL),
    {
        "text": MAX_SCHEMA_BYTES,
        "tools": MAX_TOOLS_BYTES,
        "tool_choice": MAX_SCHEMA_BYTES,
        "reasoning": MAX_SCHEMA_BYTES,
    },
)


def parse(data: bytes, content_type: str) -> Request:
    """The request. Raises InvalidRequest."""
    body, fields = _reader.read(data, content_type)
    for name in _STATEFUL:
        if getattr(body, name):
            raise InvalidRequest(
                name,
                f"'{name}' is not supported: responses are not kept here. Send all of the"
                " conversation as 'input'.",
            )
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest("stream_options", "'stream_options' needs 'stream' to be true.")
    form = body.text.format if body.text is not None else None
    _check(body, form, fields)
    items = [] if isinstance(body.input, str) else body.input
    return Request(
        operation=Operation.RESPONSE,
        model=body.model,
        streamed=bool(body.stream),
        turns=_turns(body),
        body=_reader.forward(fields),
        size_bytes=len(data),
        max_tokens=body.max_output_tokens,
        json_object=form is not None and form.type != "text",
        media_field=_media_field(items),
    )


def _check(body: Body, form: Format | None, fields: dict[str, Raw]) -> None:
    if form is not None:
        if form.type == "json_schema" and form.schema is None:
            raise missing("text.format.schema")
        openai_bounds.check_schema("text.format.schema", form.schema)
    if body.tools:
        openai_bounds.check_schemas(
            (f"tools[{i}].parameters", tool.parameters) for i, tool in enumerate(body.tools)
        )
    for name in _OPEN & fields.keys():
        openai_bounds.check_size(name, getattr(body, name))


def _turns(body: Body) -> list[Turn]:
    turns = [Turn("system", body.instructions)] if body.instructions else []
    if isinstance(body.input, str):
        return [*turns, Turn("user", body.input)]
    for i, item in enumerate(body.input):
        field = f"input[{i}]"
        match item.type:
            case "message":
                if item.role is None:
                    raise missing(f"{field}.role")
                if item.content is None:
                    raise missing(f"{field}.content")
                turns.append(Turn(item.role, _text(item.content)))
            case "function_call":
                for name in ("call_id", "name", "arguments"):
                    if getattr(item, name) is None:
                        raise missing(f"{field}.{name}")
                turns.append(Turn("assistant", item.arguments or ""))
            case "function_call_output":
                if item.call_id is None or item.output is None:
                    raise missing(f"{field}.{'call_id' if item.call_id is None else 'output'}")
                turns.append(Turn("tool", _text(item.output)))
            case _:
                pass
    return turns


def _text(content: str | Sequence[Part]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content if isinstance(part, InputText | OutputText))


def _media_field(items: Sequence[Item]) -> str:
    """Path of the first part that is not text; empty for none. Raises InvalidRequest."""
    found = ""
    for i, item in enumerate(items):
        for name in ("content", "output"):
            content = getattr(item, name)
            for j, part in enumerate(content if isinstance(content, list) else ()):
                if not isinstance(part, InputImage):
                    continue
                path = f"input[{i}].{name}[{j}]"
                if not part.image_url.startswith("data:"):
                    raise InvalidRequest(
                        f"{path}.image_url",
                        f"Invalid value for '{path}.image_url': only data: URLs, no fetching.",
                    )
                found = found or path
    return found
