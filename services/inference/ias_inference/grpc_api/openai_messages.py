"""The messages of a chat in OpenAI's form, and what of them anything but the model reads."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from ias_inference.domain.errors import InvalidRequest


class TextPart(Struct, tag="text", tag_field="type"):
    """Text."""

    text: str


class RefusalPart(Struct, tag="refusal", tag_field="type"):
    """A refusal that the model once gave."""

    refusal: str


class MediaUrl(Struct):
    """Where an image, a video or a sound is; data: alone, nothing is fetched."""

    url: str
    detail: str | None = None


class ImagePart(Struct, tag="image_url", tag_field="type"):
    """An image."""

    image_url: MediaUrl


class AudioPart(Struct, tag="input_audio", tag_field="type"):
    """A sound, in the request itself."""

    input_audio: dict[str, Any]


Part = TextPart | ImagePart | AudioPart | RefusalPart


class FunctionCall(Struct):
    """Which function the model called, and how."""

    name: str
    arguments: str


class ToolCall(Struct):
    """A call that the model made."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class Message(Struct):
    """One turn. Fields beyond these (`reasoning_content`, …) pass to the engine as they are."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[Part], Meta(min_length=1, max_length=4096)] | None = None
    name: Annotated[str, Meta(max_length=256)] | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=128)] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None


def text_of(message: Message) -> str:
    """The text of all parts; empty when there is none."""
    content = message.content
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    return "\n".join(part.text for part in content if isinstance(part, TextPart))


def media_field(messages: Sequence[Message]) -> str:
    """Path of the first part that is not text; empty for none. Raises InvalidRequest.

    Also checks what types can't say of a message.
    """
    found = ""
    for i, message in enumerate(messages):
        content = message.content
        if isinstance(content, str):
            if message.role == "tool" and message.tool_call_id is None:
                raise _missing(f"messages[{i}].tool_call_id")
            continue
        if content is None:
            if message.role not in ("assistant", "function"):
                raise _missing(f"messages[{i}].content")
            continue
        for j, part in enumerate(content):
            path = f"messages[{i}].content[{j}]"
            if isinstance(part, ImagePart) and not part.image_url.url.startswith("data:"):
                raise InvalidRequest(
                    f"{path}.image_url.url",
                    f"Invalid value for '{path}.image_url.url': only data: URLs, no fetching.",
                )
            if isinstance(part, ImagePart | AudioPart):
                found = found or path
    return found


def _missing(field: str) -> InvalidRequest:
    return InvalidRequest(field, f"Missing required parameter: '{field}'.")
