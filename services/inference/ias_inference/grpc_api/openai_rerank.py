"""The bodies of POST /v1/rerank, in the form of Jina, Cohere and vLLM, and /v1/score, in vLLM's."""

from typing import Annotated

from msgspec import Meta, Struct

from ias_inference.domain.engines import Operation, Request
from ias_inference.domain.errors import InvalidRequest
from ias_inference.grpc_api.openai_body import Count, Envelope, Reader

MAX_DOCUMENTS = 2048

_Many = Annotated[list[str], Meta(min_length=1, max_length=MAX_DOCUMENTS)]


class Document(Struct):
    """A document as an object; other fields of it are not read."""

    text: str


class RerankBody(Envelope, kw_only=True):
    """The whole body."""

    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str | Document], Meta(min_length=1, max_length=MAX_DOCUMENTS)]
    top_n: Count | None = None
    truncate_prompt_tokens: Count | None = None
    max_tokens_per_doc: Count | None = None

    return_documents: bool | None = None


class ScoreBody(Envelope, kw_only=True):
    """The whole body."""

    text_1: str | _Many
    text_2: str | _Many
    truncate_prompt_tokens: Count | None = None


_rerank = Reader(RerankBody)
_score = Reader(ScoreBody)


def parse_rerank(data: bytes, content_type: str) -> Request:
    """The request. Raises InvalidRequest."""
    body, fields = _rerank.read(data, content_type)
    documents = [part if isinstance(part, str) else part.text for part in body.documents]
    forwarded = _rerank.forward(fields) | {"documents": documents}
    return Request(
        operation=Operation.RERANK,
        model=body.model,
        inputs=documents,
        queries=[body.query],
        body=forwarded,
        size_bytes=_read_bytes(len(data), [body.query], len(documents)),
    )


def parse_score(data: bytes, content_type: str) -> Request:
    """The request. Raises InvalidRequest."""
    body, fields = _score.read(data, content_type)
    queries = [body.text_1] if isinstance(body.text_1, str) else body.text_1
    documents = [body.text_2] if isinstance(body.text_2, str) else body.text_2
    if len(queries) not in (1, len(documents)):
        raise InvalidRequest("text_1", "'text_1' must be one text, or as many as 'text_2' has.")
    return Request(
        operation=Operation.SCORE,
        model=body.model,
        inputs=documents,
        queries=queries,
        body=_score.forward(fields),
        size_bytes=_read_bytes(len(data), queries, len(documents)),
    )


def _read_bytes(size: int, queries: list[str], documents: int) -> int:
    """What the engine reads: a single query once with each document."""
    return size + len(queries[0].encode()) * (documents - 1) if len(queries) == 1 else size
