"""The engine `openai`: any OpenAI-compatible HTTP server.

Nothing of the client's connection reaches the server: its request is encoded anew from allowed
fields, with the registered key.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from msgspec import DecodeError, Raw

from ias_inference.adapters.engines import openai_json
from ias_inference.adapters.engines.openai_events import EventRewriter
from ias_inference.adapters.engines.openai_refusals import meaning
from ias_inference.adapters.engines.openai_stream import ChunkRewriter, EventLines, Rewriter
from ias_inference.adapters.engines.openai_upstream import Load, Upstream
from ias_inference.adapters.http1 import Client, Connection, Endpoint, HttpError, Stalled
from ias_inference.domain.engines import Estimate, Job, Operation, Request
from ias_inference.domain.errors import EngineFailed
from ias_inference.domain.models import Backend, Model
from ias_runtime.errors import InvalidField

FIRST_BYTE_S = 300.0
STALL_S = 60.0
"""Between two pieces of a stream."""
_MAX_ANSWER_BYTES = 32 * 1024 * 1024
_MAX_ERROR_BYTES = 64 * 1024
_DRAIN_S = 1.0
"""For the end of the HTTP body after `[DONE]`; then the connection is not reused."""
_ERROR_S = 5.0
"""For the body of an answer that is an error."""


class OpenAIEngine:
    """Serves every backend of the kind `openai`, over one pool of kept-alive connections."""

    def __init__(self) -> None:
        self._upstreams: dict[tuple[str, str], Upstream] = {}
        self._loads: defaultdict[tuple[str, str], Load] = defaultdict(Load)
        self._http = Client()

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    def check(self, backend: Backend) -> None:
        """Raises InvalidField unless the URL is http or https, with a host and no credentials."""
        field = "model.backend.url"
        try:
            parts = urlsplit(backend.url)
            _ = parts.port
        except ValueError:
            raise InvalidField(field, "not a valid URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidField(field, "must be http://host… or https://host…, up to and with /v1")
        if "@" in parts.netloc:
            raise InvalidField(field, "must hold no credentials; use api_key")
        if parts.query or parts.fragment:
            raise InvalidField(field, "must have no query and no fragment")
        if not backend.api_key.isascii() or not backend.api_key.isprintable():
            raise InvalidField("model.backend.api_key", "must be printable ASCII")
        try:
            Endpoint(backend.url, {})
        except (ValueError, UnicodeError):
            raise InvalidField(field, "not a valid URL") from None

    async def prepare(self, model: Model, request: Request) -> Estimate:
        """A guess by the bytes of the request, learnt from what the server counted before.

        Token ids are counted, since they are what the server reads.
        """
        sizes = [len(part) for part in request.inputs if not isinstance(part, str)]
        if sizes and len(sizes) == len(request.inputs):
            return Estimate(sum(sizes), exact=True, largest_prompt=max(sizes))
        ratio = self._upstream(model, model.backend).ratio
        return Estimate(ratio.at_most(request.size_bytes, _parts(request)))

    def in_flight(self, model: str, backend: Backend) -> int:
        """See BackendEngine.in_flight."""
        load = self._loads.get((model, backend.url))
        return 0 if load is None else load.in_flight

    async def complete(self, job: Job) -> bytes:
        """The server's answer with our id and model name. Raises EngineRefused, EngineFailed."""
        upstream = self._upstream(job.model, job.backend)
        response = await self._post(upstream, job, upstream.body(job, None))
        try:
            if response.status != 200:
                await _refuse(response, job)
            data = await _whole(response, job)
        except HttpError as error:
            raise EngineFailed(job.model.name, "broke off its answer", repr(error)) from error
        finally:
            self._release(upstream, job, response)
        return _rewritten(upstream, job, data)

    async def stream(self, job: Job) -> AsyncGenerator[list[bytes], None]:
        """The server's chunks with our id and model name; see Engine.stream."""
        upstream = self._upstream(job.model, job.backend)
        response = await self._open_stream(upstream, job)
        batch: list[bytes] = []
        try:
            rewriter, lines = _rewriter(job), EventLines()
            while data := await _read(response, job):
                for payload in _payloads(lines, data, job):
                    if payload == b"[DONE]":
                        rewriter.finished = True
                        break
                    if batch and job.room <= 0 and job.outstanding > 0:
                        yield batch
                        batch = []
                    chunk = rewriter.rewrite(payload)
                    job.ended = not rewriter.open
                    if chunk is not None:
                        batch.append(chunk)
                if batch:
                    yield batch
                    batch = []
                if rewriter.finished:
                    await _drain(response)
                    break
            if not rewriter.finished and rewriter.open:
                raise EngineFailed(job.model.name, "broke off its answer", "end of stream")
            self._learn(upstream, job)
        except EngineFailed:
            if batch:  # what came before the failure is charged, so it is delivered
                yield batch
            raise
        finally:
            self._release(upstream, job, response)
            _charge_unreported(upstream, job)

    def _upstream(self, model: Model, backend: Backend) -> Upstream:
        key = (model.name, backend.url)
        known = self._upstreams.get(key)
        if known is None or known.model is not model:
            load = self._loads[model.real_name, backend.url]
            known = self._upstreams[key] = Upstream(model, backend, load, known)
            if backend is not model.backend:
                # All backends serve one model: what one teaches of its tokens holds for all.
                known.ratio = self._upstream(model, model.backend).ratio
        return known

    async def _post(self, upstream: Upstream, job: Job, body: bytes) -> Connection:
        upstream.load.in_flight += 1
        try:
            endpoint = upstream.endpoints[job.request.operation]
            return await self._http.post(endpoint, body, FIRST_BYTE_S)
        except BaseException as error:
            upstream.load.in_flight -= 1
            if isinstance(error, HttpError):
                raise EngineFailed(job.model.name, "can't be reached", repr(error)) from error
            raise

    async def _open_stream(self, upstream: Upstream, job: Job) -> Connection:
        options = {"include_usage": True}
        if upstream.continuous and job.request.operation is not Operation.RESPONSE:
            asked = options | {"continuous_usage_stats": True}
            response = await self._post(upstream, job, upstream.body(job, asked))
            if response.status == 200:
                upstream.proven = True
                return response
            try:
                if response.status not in (400, 422) or upstream.proven:
                    await _refuse(response, job)
            finally:
                self._release(upstream, job, response)
        response = await self._post(upstream, job, upstream.body(job, options))
        if response.status != 200:
            try:
                await _refuse(response, job)
            finally:
                self._release(upstream, job, response)
        if job.request.operation is not Operation.RESPONSE:
            upstream.continuous = False
        return response

    def _release(self, upstream: Upstream, job: Job, response: Connection) -> None:
        upstream.load.in_flight -= 1
        self._http.release(upstream.endpoints[job.request.operation], response)

    def _learn(self, upstream: Upstream, job: Job) -> None:
        if job.usage.prompt_tokens:
            _learn(upstream, job.request, job.usage.prompt_tokens)


def _rewriter(job: Job) -> Rewriter:
    if job.request.operation is Operation.RESPONSE:
        return EventRewriter(job)
    return ChunkRewriter(job)


def _parts(request: Request) -> int:
    """Messages or texts, each of which a server may add some tokens to."""
    return len(request.turns) or len(request.inputs)


def _learn(upstream: Upstream, request: Request, prompt_tokens: int) -> None:
    if all(isinstance(part, str) for part in request.inputs):
        upstream.ratio.learn(request.size_bytes, _parts(request), prompt_tokens)


_HOLDS = {
    Operation.CHAT: "choices",
    Operation.COMPLETION: "choices",
    Operation.RESPONSE: "output",
    Operation.EMBEDDING: "data",
    Operation.RERANK: "results",
    Operation.SCORE: "data",
    Operation.TOKENIZE: "tokens",
    Operation.DETOKENIZE: "prompt",
}
"""The field without which an answer makes no sense."""


def _rewritten(upstream: Upstream, job: Job, data: bytes) -> bytes:
    request, model = job.request, job.model.name
    operation = request.operation
    try:
        answer = openai_json.object_of(data)
        usage = openai_json.usage_in(operation, answer.get("usage", openai_json.NULL))
        size_bytes = len(bytes(answer[_HOLDS[operation]]))
    except (DecodeError, ValueError, RecursionError, KeyError) as error:
        cause = repr(error)
        raise EngineFailed(model, "gave an answer that makes no sense", cause) from None
    if not operation.metered:
        return openai_json.encode(answer)
    if usage is None:
        if operation.generates:
            likely = upstream.ratio.likely(size_bytes)
            job.usage.completion_tokens = min(likely, job.max_tokens * request.answers)
        _charge_unreported(upstream, job)
    else:
        usage.note(job)
        _learn(upstream, request, usage.prompt)
    if operation.generates or "id" in answer:
        answer["id"] = Raw(b'"' + job.completion_id.encode() + b'"')
    if operation.generates or "model" in answer:
        answer["model"] = upstream.shown_model
    return openai_json.encode(answer)


def _charge_unreported(upstream: Upstream, job: Job) -> None:
    """A prompt that the server never counted, but did answer, is charged by its likely size."""
    usage = job.usage
    produced = usage.completion_tokens or not job.request.operation.generates
    if produced and not usage.prompt_tokens:
        usage.prompt_tokens = upstream.ratio.likely(job.request.size_bytes)


async def _whole(response: Connection, job: Job) -> bytes:
    data = await response.read()
    while not response.at_end:
        data += await response.read()
        if len(data) > _MAX_ANSWER_BYTES:
            raise EngineFailed(job.model.name, "gave an answer without end")
    return data


async def _read(response: Connection, job: Job) -> bytes:
    response.patience_s = STALL_S if job.usage.completion_tokens else FIRST_BYTE_S
    try:
        return await response.read()
    except Stalled:
        raise EngineFailed(job.model.name, "stalled") from None
    except HttpError as error:
        raise EngineFailed(job.model.name, "broke off its answer", repr(error)) from error


def _payloads(lines: EventLines, data: bytes, job: Job) -> list[bytes]:
    try:
        return lines.feed(data)
    except ValueError as error:
        raise EngineFailed(job.model.name, "broke off its answer", repr(error)) from None


async def _drain(response: Connection) -> None:
    response.patience_s = _DRAIN_S
    try:
        while await response.read():
            pass
    except HttpError:
        response.close()


async def _refuse(response: Connection, job: Job) -> None:
    """Raises what a status other than 200 means to the client."""
    status, body = response.status, b""
    try:
        async with asyncio.timeout(_ERROR_S):
            while len(body) < _MAX_ERROR_BYTES and (data := await response.read()):
                body += data
    except (HttpError, TimeoutError):
        response.close()
    raise meaning(job, status, body[:_MAX_ERROR_BYTES])
