"""The body of POST /v1/completions."""

from typing import Annotated

from msgspec import Meta

from ias_inference.domain.engines import Operation, Request
from ias_inference.domain.errors import InvalidRequest
from ias_inference.grpc_api import openai_sampling
from ias_inference.grpc_api.openai_body import (
    ENVELOPE,
    MAX_INT,
    Reader,
    TokenId,
    include_usage,
)
from ias_inference.grpc_api.openai_texts import texts_of

DEFAULT_MAX_TOKENS = 16
"""OpenAI's."""
MAX_ANSWERS = 128
"""Prompts times `n`."""
_Ids = Annotated[list[TokenId], Meta(min_length=1)]


class Body(openai_sampling.Sampling, kw_only=True):
    """The whole body."""

    prompt: str | Annotated[list[str | TokenId | _Ids], Meta(min_length=1)]
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    max_tokens: Annotated[int, Meta(ge=0, le=MAX_INT)] | None = None
    suffix: Annotated[str, Meta(max_length=1_000_000)] | None = None
    best_of: Annotated[int, Meta(ge=1, le=openai_sampling.MAX_N)] | None = None


_reader = Reader(Body, ENVELOPE | {"best_of"}, openai_sampling.MOST_BYTES)


def parse(data: bytes, content_type: str) -> Request:
    """The request. Raises InvalidRequest."""
    body, fields = _reader.read(data, content_type)
    openai_sampling.check(body)
    prompts = texts_of("prompt", body.prompt)
    n = body.n or 1
    if len(prompts) * n > MAX_ANSWERS:
        raise InvalidRequest(
            "prompt", f"'prompt' has more than {MAX_ANSWERS} texts, each counted 'n' times."
        )
    if body.best_of is not None and body.best_of != n:
        raise InvalidRequest("best_of", "'best_of' must be left out, or equal 'n'.")
    if body.max_tokens == 0 and not body.echo:
        raise InvalidRequest("max_tokens", "'max_tokens' may be 0 only with 'echo'.")
    return Request(
        operation=Operation.COMPLETION,
        model=body.model,
        streamed=bool(body.stream),
        inputs=prompts,
        body=_reader.forward(fields),
        size_bytes=len(data),
        max_tokens=DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens,
        n=n,
        seed=body.seed,
        stop=openai_sampling.stops_of(body),
        json_object=openai_sampling.wants_json(body),
        include_usage=include_usage(body),
    )
