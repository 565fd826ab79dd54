"""What a request asks of the mock beyond its prompt: a tool call, a form, log-probabilities.

Read out of the same fields that any other engine gets, and only if one of them is there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from ias_inference.domain.engines import Operation, Request
from ias_inference.domain.errors import InvalidRequest, Unsupported

_READ = frozenset(
    {
        "tools", "tool_choice", "response_format", "text", "structured_outputs", "guided_json",
        "guided_choice", "guided_regex", "logprobs", "top_logprobs", "echo",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wishes:
    """Off unless set."""

    tool: str = ""
    """The tool to call."""
    schema: object = None
    """What the answer's JSON, or the tool's arguments, must fit."""
    choices: tuple[str, ...] = ()
    """The answers to choose from."""
    logprobs: int | None = None
    """How many likely tokens to tell in each place; None tells nothing."""
    echo: bool = False
    """Whether the prompt stands before the answer."""


NONE = Wishes()


def wishes_of(request: Request) -> Wishes:
    """What a request asks for. Raises InvalidRequest, Unsupported."""
    if not request.body.keys() & _READ:
        return NONE
    body = {name: _value(request.body[name]) for name in request.body.keys() & _READ}
    structured = body.get("structured_outputs") or {}
    for pattern in (body.get("guided_regex"), structured.get("regex")):
        if pattern is not None:
            raise Unsupported(request.model, "regular expressions")
    choices = body.get("guided_choice") or structured.get("choice") or ()
    tool, schema = _tool(request, body)
    return Wishes(
        tool=tool,
        schema=schema if tool else _schema(body, structured),
        choices=tuple(choices),
        logprobs=_logprobs(request, body),
        echo=bool(body.get("echo")),
    )


def _value(given: object) -> Any:
    return msgspec.json.decode(given) if isinstance(given, Raw) else given


def _tool(request: Request, body: Mapping[str, Any]) -> tuple[str, object]:
    """The tool that shall be called, and the schema of its arguments; empty for none.

    With `auto`, it is one whose name the last message, being the user's, holds.
    """
    tools = {}
    for tool in body.get("tools") or ():
        function = tool.get("function", tool)
        tools[function["name"]] = function.get("parameters") or {"type": "object"}
    choice = body.get("tool_choice") or "auto"
    if isinstance(choice, dict):
        name = choice.get("function", choice).get("name")
        if name not in tools:
            raise InvalidRequest("tool_choice", f"'tool_choice' names no tool of 'tools': {name!r}")
        return name, tools[name]
    if choice == "required":
        if not tools:
            raise InvalidRequest(
                "tool_choice", "'tool_choice' is 'required', but 'tools' is empty."
            )
        name = next(iter(tools))
        return name, tools[name]
    if choice == "auto" and tools and request.turns and request.turns[-1].role == "user":
        said = request.turns[-1].text
        for name, schema in tools.items():
            if name in said:
                return name, schema
    return "", None


def _schema(body: Mapping[str, Any], structured: Mapping[str, Any]) -> object:
    form = body.get("response_format") or {}
    told = form.get("json_schema") or {}
    text = (body.get("text") or {}).get("format") or {}
    found = (
        told.get("schema")
        or (text.get("schema") if text.get("type") == "json_schema" else None)
        or structured.get("json")
        or body.get("guided_json")
    )
    return msgspec.json.decode(found) if isinstance(found, str) else found


def _logprobs(request: Request, body: Mapping[str, Any]) -> int | None:
    if request.operation is Operation.COMPLETION:
        return body.get("logprobs")
    return (body.get("top_logprobs") or 0) if body.get("logprobs") else None
