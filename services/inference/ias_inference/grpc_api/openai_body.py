"""The body of POST /v1/chat/completions: allowed fields, their types and bounds, nothing else.

Fields that OpenAI defines pass or are accepted without effect; so do common, harmless sampling
extensions. What reaches into an engine (`priority`, `cache_salt`, `chat_template`, …) and what
nobody knows is refused, and never reaches the engine. `n` is bounded to 16, OpenAI's is 128.
"""

from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta, Raw, Struct

from ias_inference.domain.engines import Operation, Request, Turn
from ias_inference.domain.errors import InvalidRequest
from ias_inference.grpc_api.openai_messages import Message, media_field, text_of

MAX_N = 16
MAX_LOGIT_BIAS = 1024
MAX_SCHEMA_BYTES = 65_536
MAX_TEMPLATE_BYTES = 16_384
MAX_INT = 2**31 - 1

Count = Annotated[int, Meta(ge=1, le=MAX_INT)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Label = Annotated[str, Meta(max_length=512)]
Stop = Annotated[str, Meta(min_length=1, max_length=1000)]


class StreamOptions(Struct, forbid_unknown_fields=True):
    """How a stream is sent."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ResponseFormat(Struct):
    """What form the answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class FunctionDefinition(Struct):
    """What a tool is."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(Struct):
    """Something that the model may call."""

    type: Literal["function"]
    function: FunctionDefinition


class Forwarded(Struct):
    """What an engine gets, as it came."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=16_384)]
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_N)] | None = None
    presence_penalty: Penalty | None = None
    response_format: ResponseFormat | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=4)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
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
    # Extensions of vLLM, SGLang and llama.cpp that only choose among the model's tokens.
    top_k: Annotated[int, Meta(ge=-1, le=MAX_INT)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    length_penalty: Annotated[float, Meta(ge=-10, le=10)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=MAX_INT)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: (
        Annotated[list[Annotated[int, Meta(ge=0, le=MAX_INT)]], Meta(max_length=128)] | None
    ) = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    # Reaches into the template: refused later, unless the model's registration allows it.
    chat_template_kwargs: dict[str, Any] | None = None


class Body(Forwarded, kw_only=True):
    """The whole body: what is forwarded, what is ours, and what is accepted without effect."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Label | None = None
    metadata: (
        Annotated[dict[Annotated[str, Meta(max_length=64)], Label], Meta(max_length=16)] | None
    ) = None
    store: bool | None = None
    service_tier: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None


_FORWARDED = frozenset(get_type_hints(Forwarded))
_KNOWN = frozenset(get_type_hints(Body))
_fields_of = msgspec.json.Decoder(dict[str, Raw]).decode
_body_of = msgspec.json.Decoder(Body).decode
_WHITESPACE = (b" ", b"\n", b"\r", b"\t")


def parse(data: bytes, content_type: str) -> Request:
    """The request. Raises InvalidRequest."""
    if content_type and content_type.partition(";")[0].strip().lower() != "application/json":
        raise InvalidRequest(
            "content-type", f"Send the body as application/json, not {content_type[:100]!r}."
        )
    fields = _decode(data)
    if not fields.keys() <= _KNOWN:
        name = next(name for name in fields if name not in _KNOWN)[:200]
        raise InvalidRequest(name, f"Unrecognized request argument supplied: {name}")
    try:
        body = _body_of(data)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except msgspec.DecodeError:
        raise _malformed("a string holds half a surrogate pair or a control character") from None
    except UnicodeDecodeError:
        raise _malformed("it is not UTF-8") from None
    _check_whole(data, fields)
    _check(body, fields)
    stop = body.stop or ()
    options = body.stream_options
    return Request(
        operation=Operation.CHAT,
        model=body.model,
        streamed=bool(body.stream),
        turns=[Turn(message.role, text_of(message)) for message in body.messages],
        body={name: fields[name] for name in fields if name in _FORWARDED},
        size_bytes=len(data),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        n=body.n or 1,
        seed=body.seed,
        stop=(stop,) if isinstance(stop, str) else stop,
        json_object=body.response_format is not None and body.response_format.type != "text",
        media_field=media_field(body.messages),
        include_usage=options is not None and bool(options.include_usage),
    )


def _decode(data: bytes) -> dict[str, Raw]:
    if not data:
        raise _malformed("it is empty")
    try:
        data.decode()
        return _fields_of(data)
    except UnicodeDecodeError:
        raise _malformed("it is not UTF-8") from None
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    except msgspec.ValidationError:
        raise _malformed("it must be an object") from None
    except msgspec.DecodeError as error:
        raise _malformed(str(error).removeprefix("JSON is malformed: ")) from None


def _malformed(why: str) -> InvalidRequest:
    return InvalidRequest("", f"We could not parse the JSON body of your request: {why}.")


def _invalid(told: str) -> InvalidRequest:
    """A validation failure of msgspec, as `max_tokens: Expected `int` >= 1`."""
    what, _, path = told.rpartition(" - at `")
    if not what:
        what, path = told, "$`"
    field = path[:-1].removeprefix("key in ").removeprefix("$").removeprefix(".")
    if what.startswith("Object missing required field `"):
        name = what.split("`")[1]
        field = f"{field}.{name}" if field else name
        return InvalidRequest(field, f"Missing required parameter: '{field}'.")
    return InvalidRequest(field, f"Invalid value for '{field}': {what}.")


def _check_whole(data: bytes, fields: dict[str, Raw]) -> None:
    """Refuses a key that stands twice: two readers might see two requests.

    All bytes must be accounted for by the fields as decoded, punctuation and whitespace. So a key
    with escapes is refused too.
    """
    size = 1 + sum(len(name) + 4 for name in fields)
    raws = fields.values()
    size += sum(map(_length, raws))
    if size == len(data):
        return
    spaces = sum(map(data.count, _WHITESPACE))
    for raw in raws:
        value = bytes(raw)
        spaces -= sum(map(value.count, _WHITESPACE))
    if size + spaces != len(data):
        raise _malformed("a key stands twice, or is written with escapes")


def _length(raw: Raw) -> int:
    return memoryview(raw).nbytes


def _check(body: Body, fields: dict[str, Raw]) -> None:
    """What types can't say."""
    if body.logit_bias is not None and len(body.logit_bias) > MAX_LOGIT_BIAS:
        raise InvalidRequest("logit_bias", f"'logit_bias' has more than {MAX_LOGIT_BIAS} entries.")
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequest("top_logprobs", "'top_logprobs' needs 'logprobs' to be true.")
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest("stream_options", "'stream_options' needs 'stream' to be true.")
    template = fields.get("chat_template_kwargs")
    if template is not None and _length(template) > MAX_TEMPLATE_BYTES:
        raise InvalidRequest(
            "chat_template_kwargs",
            f"'chat_template_kwargs' has more than {MAX_TEMPLATE_BYTES} bytes.",
        )
    form = body.response_format
    if form is not None:
        if form.type == "json_schema" and form.json_schema is None:
            raise InvalidRequest(
                "response_format.json_schema",
                "Missing required parameter: 'response_format.json_schema'.",
            )
        if _length(fields["response_format"]) > MAX_SCHEMA_BYTES:
            raise InvalidRequest(
                "response_format", f"'response_format' has more than {MAX_SCHEMA_BYTES} bytes."
            )
