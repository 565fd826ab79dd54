"""Typed chat for gRPC clients: the same rules and the same accounting as the OpenAI surface."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

import msgspec
from ias.inference.v1 import chat_pb2 as pb

from ias_inference.domain.engines import Operation, Request, Turn
from ias_inference.domain.errors import InvalidRequest
from ias_inference.domain.serving import Serving
from ias_inference.grpc_api import openai_bounds, openai_sampling, typed
from ias_inference.grpc_api.openai_chat import MAX_TOOLS_BYTES
from ias_inference.grpc_api.openai_sampling import MAX_SCHEMA_BYTES, ResponseFormat
from ias_runtime.fields import to_timestamp
from ias_runtime.rpc import Call

_ROLES = {
    pb.CHAT_ROLE_SYSTEM: "system",
    pb.CHAT_ROLE_USER: "user",
    pb.CHAT_ROLE_ASSISTANT: "assistant",
    pb.CHAT_ROLE_TOOL: "tool",
}
_CHOICES = frozenset({"auto", "none", "required"})
_MAX_TOOLS = 128
_MAX_TOP_LOGPROBS = 20


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    id: str | None = None
    index: int = 0
    function: _Function | None = None


class _Logprob(msgspec.Struct):
    token: str
    logprob: float
    top_logprobs: list["_Logprob"] = []

    def message(self) -> pb.TokenLogprob:
        top = [one.message() for one in self.top_logprobs]
        return pb.TokenLogprob(token=self.token, logprob=self.logprob, top=top)


class _Logprobs(msgspec.Struct):
    content: list[_Logprob] | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    delta: _Message | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    """A completion or a chunk of one."""

    id: str
    created: int
    choices: list[_Choice]
    usage: typed.Usage | None = None


_answer = msgspec.json.Decoder(_Answer)


class ChatApi:
    """Serves ias.inference.v1.ChatService."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def Chat(self, request: pb.ChatRequest, call: Call) -> pb.ChatResponse:
        """Answers a chat in one message."""
        asked = _to_request(request, call)
        whole = await self._serving.complete(call.verified, call.request_id, asked)
        answer = typed.read(_answer, whole, asked)
        choice = answer.choices[0] if answer.choices else _Choice()
        said = choice.message or _Message()
        return pb.ChatResponse(
            id=answer.id,
            model=asked.model,
            create_time=to_timestamp(datetime.fromtimestamp(answer.created, UTC)),
            message=pb.ChatMessage(
                role=pb.CHAT_ROLE_ASSISTANT,
                content=said.content or "",
                tool_calls=_calls(said, numbered=True),
            ),
            finish_reason=typed.finish(choice.finish_reason),
            usage=answer.usage.message() if answer.usage else None,
            logprobs=_logprobs(choice),
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
                    yield _piece(typed.read(_answer, chunk, asked), asked)


def _to_request(request: pb.ChatRequest | pb.StreamChatRequest, call: Call) -> Request:
    """The request as the domain takes it. Raises InvalidRequest, ModelMismatch."""
    typed.check_model(request.model, call)
    messages = _messages(request.messages)
    given = request.parameters
    body: dict[str, object] = {"messages": messages, **typed.sampling(given), **_tools(given)}
    form = None
    if given.response_format_json:
        field = "parameters.response_format_json"
        told = typed.json_of(field, given.response_format_json, MAX_SCHEMA_BYTES)
        form = typed.converted(ResponseFormat, field, told)
        if form.type == "json_schema" and form.json_schema is None:
            raise InvalidRequest(field, f"{field}: 'json_schema' is missing")
        openai_sampling.check_form(field, form)
        body["response_format"] = told
    if given.top_logprobs:
        _check_top_logprobs(given)
        body["top_logprobs"] = given.top_logprobs
    if given.logprobs:
        body["logprobs"] = True
    return Request(
        operation=Operation.CHAT,
        model=request.model,
        turns=[Turn(_ROLES[turn.role], turn.content) for turn in request.messages],
        body=body,
        size_bytes=request.ByteSize(),
        max_tokens=typed.optional(given, "max_tokens"),
        seed=typed.optional(given, "seed"),
        stop=list(given.stop),
        json_object=form is not None and form.type != "text",
    )


def _messages(turns: Sequence[pb.ChatMessage]) -> list[dict[str, object]]:
    if not turns:
        raise InvalidRequest("messages", "messages: at least 1")
    messages = []
    for index, turn in enumerate(turns):
        role = _ROLES.get(turn.role)
        if role is None:
            raise InvalidRequest(f"messages[{index}].role", f"messages[{index}].role: required")
        message: dict[str, object] = {"role": role, "content": turn.content}
        if turn.name:
            message["name"] = turn.name
        if turn.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments_json},
                }
                for call in turn.tool_calls
            ]
        if turn.tool_call_id:
            message["tool_call_id"] = turn.tool_call_id
        elif role == "tool":
            field = f"messages[{index}].tool_call_id"
            raise InvalidRequest(field, f"{field}: required")
        messages.append(message)
    return messages


def _tools(given: pb.ChatParameters) -> dict[str, object]:
    """The fields about tools, if there are any. Raises InvalidRequest."""
    if len(given.tools) > _MAX_TOOLS:
        raise InvalidRequest("parameters.tools", f"parameters.tools: at most {_MAX_TOOLS}")
    if sum(len(tool.parameters_json) for tool in given.tools) > MAX_TOOLS_BYTES:
        told = f"parameters.tools: at most {MAX_TOOLS_BYTES} characters of JSON schemas"
        raise InvalidRequest("parameters.tools", told)
    tools: list[object] = []
    schemas: list[tuple[str, object]] = []
    for index, tool in enumerate(given.tools):
        field = f"parameters.tools[{index}]"
        if not 1 <= len(tool.name) <= 64:
            raise InvalidRequest(f"{field}.name", f"{field}.name: 1 to 64 characters")
        function: dict[str, object] = {"name": tool.name}
        if tool.description:
            function["description"] = tool.description
        if tool.parameters_json:
            field += ".parameters_json"
            schema = typed.json_of(field, tool.parameters_json, MAX_SCHEMA_BYTES)
            function["parameters"] = typed.converted(dict[str, object], field, schema)
            schemas.append((field, schema))
        tools.append({"type": "function", "function": function})
    openai_bounds.check_schemas(schemas)
    body: dict[str, object] = {"tools": tools} if tools else {}
    choice = given.tool_choice
    if choice in _CHOICES:
        body["tool_choice"] = choice
    elif choice:
        if choice not in {tool.name for tool in given.tools}:
            field = "parameters.tool_choice"
            raise InvalidRequest(field, f"{field}: auto, none, required, or the name of a tool")
        body["tool_choice"] = {"type": "function", "function": {"name": choice}}
    return body


def _check_top_logprobs(given: pb.ChatParameters) -> None:
    field = "parameters.top_logprobs"
    if not given.logprobs:
        raise InvalidRequest(field, f"{field}: needs logprobs")
    if not 0 <= given.top_logprobs <= _MAX_TOP_LOGPROBS:
        raise InvalidRequest(field, f"{field}: must be 0 to {_MAX_TOP_LOGPROBS}")


def _piece(chunk: _Answer, asked: Request) -> pb.StreamChatResponse:
    choice = chunk.choices[0] if chunk.choices else _Choice()
    said = choice.delta or _Message()
    return pb.StreamChatResponse(
        id=chunk.id,
        model=asked.model,
        content=said.content or "",
        finish_reason=typed.finish(choice.finish_reason),
        usage=chunk.usage.message() if chunk.usage else None,
        tool_calls=_calls(said, numbered=False),
        logprobs=_logprobs(choice),
    )


def _calls(said: _Message, *, numbered: bool) -> list[pb.ToolCall]:
    """The tool calls of a message; numbered here where an engine numbers those of chunks alone."""
    calls = []
    for position, call in enumerate(said.tool_calls or ()):
        function = call.function or _Function()
        calls.append(
            pb.ToolCall(
                id=call.id or "",
                name=function.name or "",
                arguments_json=function.arguments or "",
                index=position if numbered else call.index,
            )
        )
    return calls


def _logprobs(choice: _Choice) -> list[pb.TokenLogprob]:
    if choice.logprobs is None:
        return []
    return [one.message() for one in choice.logprobs.content or ()]
