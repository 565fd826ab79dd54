"""How tokens are chosen, and what form an answer has: fields that chats and completions share."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from ias_inference.domain.errors import InvalidRequest
from ias_inference.grpc_api import openai_bounds, openai_regex
from ias_inference.grpc_api.openai_body import MAX_INT, Streamed, TokenId, missing

MAX_N = 16
"""OpenAI's is 128."""
MAX_LOGIT_BIAS = 1024
MAX_SCHEMA_BYTES = 65_536
MAX_CHOICES = 256
MOST_BYTES = dict.fromkeys(
    ("response_format", "structured_outputs", "guided_json", "guided_choice"), MAX_SCHEMA_BYTES
)
"""Fields that an engine compiles."""

Penalty = Annotated[float, Meta(ge=-2, le=2)]
Stop = Annotated[str, Meta(min_length=1, max_length=1000)]
_Schema = str | dict[str, Any]
_Choices = Annotated[list[Annotated[str, Meta(max_length=1000)]], Meta(max_length=MAX_CHOICES)]


class ResponseFormat(Struct):
    """What form the answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class StructuredOutputs(Struct, forbid_unknown_fields=True):
    """vLLM's form of the same, as far as it is bounded: no grammars, no structural tags."""

    json: _Schema | None = None
    regex: str | None = None
    choice: _Choices | None = None
    json_object: bool | None = None


class Sampling(Streamed, kw_only=True):
    """The fields; an engine gets them as they came."""

    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_N)] | None = None
    presence_penalty: Penalty | None = None
    response_format: ResponseFormat | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=4)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    # Extensions of vLLM, SGLang and llama.cpp that only choose among the model's tokens.
    top_k: Annotated[int, Meta(ge=-1, le=MAX_INT)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    length_penalty: Annotated[float, Meta(ge=-10, le=10)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=MAX_INT)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=128)] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: _Schema | None = None
    guided_regex: str | None = None
    guided_choice: _Choices | None = None


def stops_of(body: Sampling) -> list[str]:
    """The stop strings."""
    stop = body.stop
    return [stop] if isinstance(stop, str) else stop or []


def wants_json(body: Sampling) -> bool:
    """Whether the answer must be JSON."""
    form, outputs = body.response_format, body.structured_outputs
    return (
        (form is not None and form.type != "text")
        or body.guided_json is not None
        or (outputs is not None and (outputs.json is not None or bool(outputs.json_object)))
    )


def check(body: Sampling) -> None:
    """What types can't say. Raises InvalidRequest."""
    if body.logit_bias is not None and len(body.logit_bias) > MAX_LOGIT_BIAS:
        raise InvalidRequest("logit_bias", f"'logit_bias' has more than {MAX_LOGIT_BIAS} entries.")
    form = body.response_format
    if form is not None:
        if form.type == "json_schema" and form.json_schema is None:
            raise missing("response_format.json_schema")
        check_form("response_format", form)
    outputs = body.structured_outputs
    if outputs is not None:
        _check_guide("structured_outputs.json", outputs.json)
        openai_regex.check_regex("structured_outputs.regex", outputs.regex)
    if body.guided_json is not None:
        _check_guide("guided_json", body.guided_json)
    openai_regex.check_regex("guided_regex", body.guided_regex)


def check_form(field: str, form: ResponseFormat) -> None:
    """Bounds the schema of an answer, and what comes with it. Raises InvalidRequest."""
    if form.json_schema is not None:
        beside = {name: value for name, value in form.json_schema.items() if name != "schema"}
        openai_bounds.check_size(field, beside)
        openai_bounds.check_schema(field, form.json_schema.get("schema"))


def _check_guide(field: str, schema: _Schema | None) -> None:
    if isinstance(schema, str):
        openai_bounds.check_schema_text(field, schema)
    else:
        openai_bounds.check_schema(field, schema)
