"""The mock in the place of vLLM: an adapter process without a model, for tests and demos.

With IAS_INFERENCE_ENGINE=mock a process serves the models of the kind `vllm` so; Envoy sends it
those whose backends name its address.
"""

from collections.abc import AsyncGenerator
from dataclasses import replace

from ias_inference.adapters.engines.mock import MockEngine
from ias_inference.adapters.engines.remote import check_address
from ias_inference.domain.engines import Engine, Estimate, Job, Request
from ias_inference.domain.models import Backend, EngineKind, Model

_BACKEND = Backend(EngineKind.MOCK, "mock:?switches=1")


class MockAdapter:
    """Serves every model of the kind `vllm` with the mock, its switches on."""

    def __init__(self) -> None:
        self._mock: Engine = MockEngine()

    def check(self, backend: Backend) -> None:
        """Raises InvalidField unless the URL is grpc://host:port."""
        check_address(backend)

    def served(self) -> None:
        """None: every name alike, with the context that is registered."""

    async def prepare(self, model: Model, request: Request) -> Estimate:
        """As the mock does."""
        return await self._mock.prepare(replace(model, backends=(_BACKEND,)), request)

    async def complete(self, job: Job) -> bytes:
        """As the mock does."""
        job.backend = _BACKEND
        return await self._mock.complete(job)

    def stream(self, job: Job) -> AsyncGenerator[list[bytes], None]:
        """As the mock does."""
        job.backend = _BACKEND
        return self._mock.stream(job)
