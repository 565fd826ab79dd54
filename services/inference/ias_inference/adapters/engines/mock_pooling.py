"""What the mock answers without saying anything: vectors, scores, tokens.

A vector is a bag of words: each word points into directions of its own, so texts that share words
are near to each other, and reranking by that is of some use in a demo.
"""

import base64
import hashlib
import math
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Raw

from ias_inference.adapters.engines import mock_tokens
from ias_inference.domain.engines import Job, Operation, Request
from ias_inference.domain.models import Model

DIMENSIONS = 256
"""Unless the request says how many."""
_WORD = re.compile(r"\w+")
_MAX_WORDS = 10_000
"""Of a text; the rest changes its vector no more."""
_FIELDS = {Operation.DETOKENIZE: "tokens"}
_UNBOUNDED = 2**31 - 1

encode = msgspec.json.encode


def count(request: Request) -> tuple[int, int]:
    """Tokens that the model reads: in all, and for the longest input.

    Raises InvalidRequest for tokens that are none.
    """
    mock_tokens.texts_of(request.inputs, _FIELDS.get(request.operation, "input"))
    sizes = [mock_tokens.count(part) for part in request.inputs]
    if request.operation in (Operation.RERANK, Operation.SCORE):
        asked = [mock_tokens.count(query) for query in request.queries]
        if len(asked) == 1:
            asked *= len(sizes)
        sizes = [query + size for query, size in zip(asked, sizes, strict=True)]
    return sum(sizes), max(sizes, default=0)


def answer(job: Job) -> bytes:
    """The whole answer."""
    match job.request.operation:
        case Operation.EMBEDDING:
            return encode(_embeddings(job))
        case Operation.RERANK:
            return encode(_reranked(job))
        case Operation.SCORE:
            return encode(_scored(job))
        case Operation.TOKENIZE:
            return encode(_tokenized(job))
        case _:
            text = mock_tokens.decode(_ids(job.request))
            return encode({"prompt": text})


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """The text's unit vector, of numbers that a float32 holds exactly."""
    words = _WORD.findall(text.lower())[:_MAX_WORDS] or [text]
    values = [0.0] * dimensions
    for word, times in Counter(words).items():
        weight = 1 + math.log(times)
        for number in _directions(word):
            values[number % dimensions] += weight if number >> 63 else -weight
    size = math.sqrt(sum(value * value for value in values))
    if not size:  # words that cancel each other out
        values[0] = size = 1.0
    return array("f", [value / size for value in values]).tolist()


@lru_cache(maxsize=65_536)
def _directions(word: str) -> tuple[int, ...]:
    digest = hashlib.blake2b(word.encode(), digest_size=64).digest()
    return tuple(int.from_bytes(digest[at : at + 8], "big") for at in range(0, 64, 8))


def _embeddings(job: Job) -> dict[str, object]:
    request = job.request
    dimensions = _value(request, "dimensions") or DIMENSIONS
    as_text = _value(request, "encoding_format") == "base64"
    data = []
    for index, text in enumerate(mock_tokens.texts_of(request.inputs, "input")):
        found = vector(text, dimensions)
        shown = base64.b64encode(_little_endian(found)).decode() if as_text else found
        data.append({"object": "embedding", "index": index, "embedding": shown})
    return {"object": "list", "data": data, "model": job.model.name, "usage": _usage(job)}


def _little_endian(values: Sequence[float]) -> bytes:
    packed = array("f", values)
    if memoryview(array("h", [1])).tobytes()[0] != 1:
        packed.byteswap()
    return packed.tobytes()


def _reranked(job: Job) -> dict[str, object]:
    request = job.request
    scores = _scores(request)
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    shows = _value(request, "return_documents") is not False
    results: list[dict[str, object]] = []
    for index in order[: _value(request, "top_n") or len(order)]:
        result: dict[str, object] = {"index": index, "relevance_score": scores[index]}
        if shows:
            result["document"] = {"text": request.inputs[index]}
        results.append(result)
    used = _usage(job)
    return {
        "id": job.completion_id,
        "model": job.model.name,
        "usage": used,
        "results": results,
    }


def _scored(job: Job) -> dict[str, object]:
    data = [
        {"index": index, "object": "score", "score": score}
        for index, score in enumerate(_scores(job.request))
    ]
    return {
        "id": job.completion_id,
        "object": "list",
        "created": job.created,
        "model": job.model.name,
        "data": data,
        "usage": _usage(job),
    }


def _scores(request: Request) -> list[float]:
    """0 to 1: how near each document is to its query."""
    queries = [vector(query) for query in request.queries]
    if len(queries) == 1:
        queries *= len(request.inputs)
    documents = mock_tokens.texts_of(request.inputs, "documents")
    return [
        round((1 + sum(a * b for a, b in zip(query, vector(text), strict=True))) / 2, 6)
        for query, text in zip(queries, documents, strict=True)
    ]


def _tokenized(job: Job) -> dict[str, object]:
    request = job.request
    if request.inputs:
        ids = [token for text in request.inputs for token in mock_tokens.encode(str(text))]
    else:
        ids = mock_tokens.encode_chat(request.turns)
    shows = _value(request, "return_token_strs")
    texts = [mock_tokens.decode([token]) for token in ids] if shows else None
    return {
        "count": len(ids),
        "max_model_len": _max_model_len(job.model),
        "tokens": ids,
        "token_strs": texts,
    }


def _max_model_len(model: Model) -> int:
    return model.context_length or _UNBOUNDED


def _ids(request: Request) -> Sequence[int]:
    (ids,) = request.inputs
    assert not isinstance(ids, str)
    return ids


def _value(request: Request, name: str) -> Any:
    found = request.body.get(name)
    return msgspec.json.decode(found) if isinstance(found, Raw) else found


def _usage(job: Job) -> dict[str, int]:
    used = job.usage
    return {"prompt_tokens": used.prompt_tokens, "total_tokens": used.total_tokens}
