"""Typed embeddings for gRPC clients."""

import base64
import binascii
import struct

import msgspec
from ias.inference.v1 import embeddings_pb2 as pb

from ias_inference.domain.engines import Operation, Request
from ias_inference.domain.errors import EngineFailed, InvalidRequest
from ias_inference.domain.serving import Serving
from ias_inference.grpc_api import typed
from ias_inference.grpc_api.openai_embeddings import MAX_DIMENSIONS, MAX_INPUTS
from ias_runtime.rpc import Call


class _Item(msgspec.Struct):
    embedding: str | list[float]
    index: int = 0


class _Answer(msgspec.Struct):
    data: list[_Item]
    usage: typed.Usage | None = None


_answer = msgspec.json.Decoder(_Answer)


class EmbeddingApi:
    """Serves ias.inference.v1.EmbeddingService."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def Embed(self, request: pb.EmbedRequest, call: Call) -> pb.EmbedResponse:
        """Turns texts into vectors."""
        asked = _to_request(request, call)
        whole = await self._serving.complete(call.verified, call.request_id, asked)
        answer = typed.read(_answer, whole, asked)
        ordered = sorted(answer.data, key=lambda item: item.index)
        usage = answer.usage or typed.Usage()
        return pb.EmbedResponse(
            model=asked.model,
            embeddings=[pb.Embedding(values=_values(item.embedding, asked)) for item in ordered],
            usage=pb.EmbeddingUsage(prompt_tokens=usage.prompt_tokens),
        )


def _to_request(request: pb.EmbedRequest, call: Call) -> Request:
    """The request as the domain takes it. Raises InvalidRequest, ModelMismatch."""
    typed.check_model(request.model, call)
    if bool(request.texts) == bool(request.tokens):
        raise InvalidRequest("texts", "texts: required, unless tokens is given instead")
    field = "texts" if request.texts else "tokens"
    inputs: list[str | list[int]] = [*request.texts, *(list(part.ids) for part in request.tokens)]
    if len(inputs) > MAX_INPUTS or not all(inputs):
        raise InvalidRequest(field, f"{field}: at most {MAX_INPUTS}, none empty")
    if any(min(part) < 0 for part in inputs if not isinstance(part, str)):
        raise InvalidRequest(field, f"{field}: none negative")
    # In base64 the engine has less to write, and we less to read.
    body: dict[str, object] = {"input": inputs, "encoding_format": "base64"}
    dimensions = typed.optional(request, "dimensions")
    if dimensions is not None:
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise InvalidRequest("dimensions", f"dimensions: must be 1 to {MAX_DIMENSIONS}")
        body["dimensions"] = dimensions
    return Request(
        operation=Operation.EMBEDDING,
        model=request.model,
        inputs=inputs,
        body=body,
        size_bytes=request.ByteSize(),
    )


def _values(embedding: str | list[float], asked: Request) -> list[float]:
    """The numbers of a vector; some servers know no base64 and give numbers all the same."""
    if not isinstance(embedding, str):
        return embedding
    try:
        data = base64.b64decode(embedding, validate=True)
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    except (binascii.Error, struct.error) as error:
        raise EngineFailed(asked.model, "gave an answer that makes no sense", repr(error)) from None
