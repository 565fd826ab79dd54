"""Models that are served by adapter processes of their own, seen from all other processes.

Envoy sends requests for such a model straight to its adapters. One that arrives elsewhere was
routed before the change was known, or by an Envoy that does not follow the registry.
"""

from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

from ias_inference.domain.engines import Estimate, Job, Request, Served
from ias_inference.domain.errors import EngineFailed
from ias_inference.domain.models import Backend, Model
from ias_runtime.errors import InvalidField


class RemoteAdapters:
    """The engine `vllm` where it is not: knows good registrations, and serves nothing."""

    def check(self, backend: Backend) -> None:
        """Raises InvalidField unless the URL is grpc://host:port."""
        check_address(backend)

    def served(self) -> tuple[Served, ...]:
        """Nothing."""
        return ()

    async def prepare(self, model: Model, request: Request) -> Estimate:
        """Raises EngineFailed."""
        raise EngineFailed(model.name, "is served elsewhere; the way there is not known yet")

    async def complete(self, job: Job) -> bytes:
        """Never reached."""
        raise EngineFailed(job.model.name, "is served elsewhere")

    async def stream(self, job: Job) -> AsyncGenerator[list[bytes], None]:
        """Never reached."""
        raise EngineFailed(job.model.name, "is served elsewhere")
        yield []


def check_address(backend: Backend) -> None:
    """Raises InvalidField unless the URL is grpc://host:port."""
    field = "model.backend.url"
    rule = "must be grpc://host:port of the adapter process"
    try:
        parts = urlsplit(backend.url)
        port = parts.port
    except ValueError:
        raise InvalidField(field, rule) from None
    whole = f"grpc://{parts.netloc}"
    if parts.scheme != "grpc" or not parts.hostname or not port or backend.url != whole:
        raise InvalidField(field, rule)
    if "@" in parts.netloc:
        raise InvalidField(field, rule)
    if backend.api_key:
        raise InvalidField("model.backend.api_key", "an adapter needs none")
