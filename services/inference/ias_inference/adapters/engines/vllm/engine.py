"""The engine port over one vLLM: which way a request takes."""

import base64
import hashlib
import hmac
from collections.abc import AsyncGenerator, Sequence
from functools import lru_cache

import structlog

from ias_inference.adapters.engines.remote import check_address
from ias_inference.adapters.engines.vllm.lean import Lean, Prepared
from ias_inference.adapters.engines.vllm.pooling import Pooling
from ias_inference.adapters.engines.vllm.process import Process
from ias_inference.adapters.engines.vllm.serving import Generation
from ias_inference.adapters.engines.vllm.tokens import Tokens
from ias_inference.domain.engines import Estimate, Job, Operation, Request, Served
from ias_inference.domain.errors import EngineFailed
from ias_inference.domain.models import Backend, Model

log = structlog.get_logger()

_SALT_PURPOSE = b"ias vllm cache salt\0"
_POOLING = frozenset({Operation.EMBEDDING, Operation.RERANK, Operation.SCORE})
_UNMETERED = frozenset({Operation.TOKENIZE, Operation.DETOKENIZE})


class VllmEngine:
    """Serves the registry's models that this process's vLLM was started for."""

    def __init__(self, flags: Sequence[str], secret: str, *, lean: bool = True) -> None:
        """`flags` are vLLM's own; `secret` keys what separates organisations in its cache."""
        self._process = Process(flags)
        key = secret.encode()

        @lru_cache(maxsize=4096)
        def salt_of(organization_id: str) -> str:
            digest = hmac.digest(key, _SALT_PURPOSE + organization_id.encode(), hashlib.sha256)
            return base64.b64encode(digest).decode()

        self._use_lean = lean
        self._lean = Lean(self._process, salt_of)
        self._generation = Generation(self._process, salt_of)
        self._pooling = Pooling(self._process, salt_of)
        self._tokens = Tokens(self._process)
        self._generates = False

    async def start(self) -> None:
        """Loads the model: seconds to many minutes. Raises what vLLM raises."""
        await self._process.start()
        self._generates = "generate" in self._process.tasks
        self._generation.open()
        self._pooling.open()
        if self._generates and self._use_lean:
            await self._lean.open()
        else:
            self._use_lean = False

    async def died(self) -> None:
        """Returns when vLLM has died; only a new process brings it back."""
        await self._process.died()

    async def stop(self) -> None:
        """Ends vLLM."""
        await self._process.stop()

    def check(self, backend: Backend) -> None:
        """Raises InvalidField unless the URL is grpc://host:port."""
        check_address(backend)

    def served(self) -> tuple[Served, ...]:
        """Each name of the one model. Raises EngineFailed while it is not ready."""
        process = self._process
        if not process.running:
            raise EngineFailed(process.names[0], "is not ready")
        context = process.llm.model_config.max_model_len
        return tuple(Served(name, context) for name in process.names)

    async def prepare(self, model: Model, request: Request) -> Estimate:
        """Renders and counts the prompt; see Engine.prepare."""
        process = self._process
        if not process.running:
            raise EngineFailed(model.name, "is not ready")
        if not any(backend.upstream_model in process.names for backend in model.backends):
            raise EngineFailed(
                model.name, "is not served here", f"this process serves {process.names}"
            )
        if request.operation in _POOLING:
            return await self._pooling.prepare(model.name, request)
        if request.operation in _UNMETERED:
            return Estimate(0, longest=0, exact=True)
        if self._use_lean and (estimate := await self._lean.prepare(request)) is not None:
            return estimate
        return await self._generation.prepare(model.name, request)

    async def complete(self, job: Job) -> bytes:
        """The whole answer; see Engine.complete."""
        if isinstance(job.prepared, Prepared):
            return await self._lean.complete(job)
        if job.request.operation in _POOLING:
            return await self._pooling.complete(job)
        if job.request.operation in _UNMETERED:
            return await self._tokens.complete(job)
        return await self._generation.complete(job)

    def stream(self, job: Job) -> AsyncGenerator[list[bytes], None]:
        """The events; see Engine.stream."""
        if isinstance(job.prepared, Prepared):
            return self._lean.stream(job)
        return self._generation.stream(job)
