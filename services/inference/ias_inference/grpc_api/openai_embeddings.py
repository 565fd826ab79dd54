"""The body of POST /v1/embeddings."""

from typing import Annotated, Literal

from msgspec import Meta

from ias_inference.domain.engines import Operation, Request
from ias_inference.domain.errors import InvalidRequest
from ias_inference.grpc_api.openai_body import Envelope, Reader, TokenId
from ias_inference.grpc_api.openai_texts import texts_of

MAX_INPUTS = 2048
MAX_DIMENSIONS = 65_536


class Body(Envelope, kw_only=True):
    """The whole body."""

    input: str | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)] | None = None


_reader = Reader(Body)


def parse(data: bytes, content_type: str) -> Request:
    """The request. Raises InvalidRequest."""
    body, fields = _reader.read(data, content_type)
    inputs = texts_of("input", body.input)
    if len(inputs) > MAX_INPUTS:
        raise InvalidRequest("input", f"'input' has more than {MAX_INPUTS} texts.")
    if not all(inputs):
        raise InvalidRequest("input", "'input' must hold no empty text.")
    return Request(
        operation=Operation.EMBEDDING,
        model=body.model,
        inputs=inputs,
        body=_reader.forward(fields),
        size_bytes=len(data),
    )
