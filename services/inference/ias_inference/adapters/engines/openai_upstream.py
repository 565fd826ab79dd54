"""What is known of a registered OpenAI-compatible server."""

import msgspec
from msgspec import Raw

from ias_inference.adapters.engines.token_ratio import TokenRatio
from ias_inference.adapters.http1 import Endpoint
from ias_inference.domain.engines import Job, Operation
from ias_inference.domain.models import Backend, Model

_BOUNDS = {
    Operation.CHAT: frozenset({"max_tokens", "max_completion_tokens"}),
    Operation.COMPLETION: frozenset({"max_tokens"}),
    Operation.RESPONSE: frozenset({"max_output_tokens"}),
}
"""Fields that bound an answer; the first operation has two, of which servers read either."""
_DEFAULT_BOUND = {
    Operation.CHAT: "max_tokens",
    Operation.COMPLETION: "max_tokens",
    Operation.RESPONSE: "max_output_tokens",
}
_PATHS = {
    Operation.CHAT: "/chat/completions",
    Operation.COMPLETION: "/completions",
    Operation.RESPONSE: "/responses",
    Operation.EMBEDDING: "/embeddings",
    Operation.RERANK: "/rerank",
    Operation.SCORE: "/score",
}
_ROOT_PATHS = {Operation.TOKENIZE: "/tokenize", Operation.DETOKENIZE: "/detokenize"}
"""Beside `/v1`, not under it: so vLLM, SGLang and llama.cpp have them."""


class Load:
    """What a backend has to do for one model, under whatever name that is asked for."""

    __slots__ = ("in_flight",)

    def __init__(self) -> None:
        self.in_flight = 0
        """Requests that were sent and whose answers have not ended."""


class Upstream:
    """What is prepared once for a registered model, and what was learnt about its server."""

    __slots__ = (
        "backend",
        "continuous",
        "endpoints",
        "load",
        "model",
        "proven",
        "ratio",
        "shown_model",
        "upstream_model",
    )

    def __init__(
        self, model: Model, backend: Backend, load: Load, before: "Upstream | None"
    ) -> None:
        self.model = model
        self.backend = backend
        self.load = load
        base = backend.url.rstrip("/")
        root = base.removesuffix("/v1")
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if backend.api_key:
            headers["Authorization"] = f"Bearer {backend.api_key}"
        urls = {operation: base + path for operation, path in _PATHS.items()}
        urls |= {operation: root + path for operation, path in _ROOT_PATHS.items()}
        self.endpoints = {operation: Endpoint(url, headers) for operation, url in urls.items()}
        self.upstream_model = Raw(msgspec.json.encode(backend.upstream_model or model.name))
        self.shown_model = Raw(msgspec.json.encode(model.name))
        self.ratio = TokenRatio()
        self.continuous = True
        """Whether streams ask for the usage in every chunk."""
        self.proven = False
        """Whether the server has accepted that."""
        if before is not None and before.backend == backend:
            self.ratio = before.ratio
            self.continuous, self.proven = before.continuous, before.proven

    def body(self, job: Job, stream_options: dict[str, bool] | None) -> bytes:
        """The request as the server gets it; stream options make it a stream."""
        operation = job.request.operation
        body = dict(job.request.body)
        body["model"] = self.upstream_model
        if operation.generates:
            # Whichever field the client used; servers differ in which of the two they read.
            for bound in _BOUNDS[operation] & body.keys() or {_DEFAULT_BOUND[operation]}:
                body[bound] = job.max_tokens
        if operation is Operation.RESPONSE:
            body["store"] = False
        if stream_options is not None:
            body["stream"] = True
            if operation is not Operation.RESPONSE:
                body["stream_options"] = stream_options
        return msgspec.json.encode(body)
