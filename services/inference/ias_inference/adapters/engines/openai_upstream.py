"""What is known of a registered OpenAI-compatible server."""

import msgspec
from msgspec import Raw
from yarl import URL

from ias_inference.adapters.engines.token_ratio import TokenRatio
from ias_inference.domain.engines import Job
from ias_inference.domain.models import Backend, Model

_BOUNDS = frozenset({"max_tokens", "max_completion_tokens"})


class Upstream:
    """What is prepared once for a registered model, and what was learnt about its server."""

    __slots__ = (
        "backend",
        "continuous",
        "headers",
        "model",
        "proven",
        "ratio",
        "shown_model",
        "upstream_model",
        "url",
    )

    def __init__(self, model: Model, backend: Backend, before: "Upstream | None") -> None:
        self.model = model
        self.backend = backend
        self.url = URL(backend.url.rstrip("/") + "/chat/completions")
        self.headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if backend.api_key:
            self.headers["Authorization"] = f"Bearer {backend.api_key}"
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
        body = dict(job.request.body)
        body["model"] = self.upstream_model
        # Whichever field the client used; servers differ in which of the two they read.
        for bound in _BOUNDS & body.keys() or {"max_tokens"}:
            body[bound] = job.max_tokens
        if stream_options is not None:
            body["stream"] = True
            body["stream_options"] = stream_options
        return msgspec.json.encode(body)
