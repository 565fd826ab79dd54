"""The bodies of POST /v1/tokenize and /v1/detokenize, in vLLM's form."""

from typing import Annotated

from msgspec import Meta

from ias_inference.domain.engines import Operation, Request, Turn
from ias_inference.grpc_api.openai_body import Envelope, Reader, TokenId, missing
from ias_inference.grpc_api.openai_messages import Message, media_field, text_of


class TokenizeBody(Envelope, kw_only=True):
    """The whole body."""

    prompt: str | None = None
    messages: Annotated[list[Message], Meta(min_length=1, max_length=16_384)] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeBody(Envelope, kw_only=True):
    """The whole body."""

    tokens: list[TokenId]


_tokenize = Reader(TokenizeBody)
_detokenize = Reader(DetokenizeBody)


def parse_tokenize(data: bytes, content_type: str) -> Request:
    """The request. Raises InvalidRequest."""
    body, fields = _tokenize.read(data, content_type)
    if (body.prompt is None) == (body.messages is None):
        raise missing("prompt")
    messages = body.messages or []
    return Request(
        operation=Operation.TOKENIZE,
        model=body.model,
        turns=[Turn(message.role, text_of(message)) for message in messages],
        inputs=[] if body.prompt is None else [body.prompt],
        body=_tokenize.forward(fields),
        size_bytes=len(data),
        media_field=media_field(messages),
    )


def parse_detokenize(data: bytes, content_type: str) -> Request:
    """The request. Raises InvalidRequest."""
    body, fields = _detokenize.read(data, content_type)
    return Request(
        operation=Operation.DETOKENIZE,
        model=body.model,
        inputs=[body.tokens],
        body=_detokenize.forward(fields),
        size_bytes=len(data),
    )
