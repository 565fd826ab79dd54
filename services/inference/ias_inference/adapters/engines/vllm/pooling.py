"""Embeddings, scores and rankings by vLLM's pooling objects, in the steps that they consist of.

Between the first steps, which render and count, and the last ones, which run the model, the
request is admitted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from vllm.entrypoints.pooling.embed.protocol import EmbeddingRequest
from vllm.entrypoints.pooling.scoring.protocol import RerankRequest, ScoreRequest

from ias_inference.adapters.engines import openai_json
from ias_inference.adapters.engines.vllm import answers
from ias_inference.adapters.engines.vllm.fields import values_of
from ias_inference.adapters.engines.vllm.process import Process
from ias_inference.adapters.engines.vllm.refusals import as_ours
from ias_inference.domain.engines import Estimate, Job, Operation, Request
from ias_inference.domain.errors import ContextLengthExceeded, Unsupported

_TYPES: dict[Operation, TypeAdapter[Any]] = {
    Operation.EMBEDDING: TypeAdapter(EmbeddingRequest),
    Operation.RERANK: TypeAdapter(RerankRequest),
    Operation.SCORE: TypeAdapter(ScoreRequest),
}
_FIELDS = {
    Operation.EMBEDDING: "input",
    Operation.RERANK: "documents",
    Operation.SCORE: "text_2",
}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A request with its prompts rendered."""

    serving: Any
    processor: Any
    context: Any


class Pooling:
    """EMBEDDING, RERANK and SCORE by one vLLM's serving objects."""

    def __init__(self, process: Process, salt_of: Callable[[str], str]) -> None:
        self._process = process
        self._salt_of = salt_of

    def open(self) -> None:
        """Takes vLLM's serving objects in hand. The process has been started."""
        state = self._process.state
        scores = getattr(state, "serving_scores", None)
        if scores is not None:
            scores.enable_flash_late_interaction = False
        self._servings = {
            Operation.EMBEDDING: getattr(state, "serving_embedding", None),
            Operation.RERANK: scores,
            Operation.SCORE: scores,
        }
        self._longest = self._process.llm.model_config.max_model_len

    async def prepare(self, model: str, request: Request) -> Estimate:
        """Renders and counts it. Raises InvalidRequest, Unsupported, EngineRefused."""
        serving = self._servings[request.operation]
        if serving is None:
            raise Unsupported(model, request.operation.feature)
        fields = values_of(request.body)
        fields["model"] = self._process.names[0]
        try:
            asked = _TYPES[request.operation].validate_python(fields)
            processor = serving.get_io_processor(asked)
            context = await serving._init_ctx(processor, asked, None)
            await serving._preprocessing(processor, context)
        except Exception as error:
            raise as_ours(error, model) from error
        sizes = [len(given["prompts"]["prompt_token_ids"]) for given in context.engine_inputs]
        if max(sizes) > self._longest:
            field = _FIELDS[request.operation]
            raise ContextLengthExceeded(self._longest, max(sizes), 0, field)
        return Estimate(
            sum(sizes),
            longest=0,
            exact=True,
            largest_prompt=max(sizes),
            prepared=Rendered(serving, processor, context),
        )

    async def complete(self, job: Job) -> bytes:
        """The whole answer. Raises EngineRefused, EngineFailed."""
        prepared = job.prepared
        assert isinstance(prepared, Rendered)
        serving, context = prepared.serving, prepared.context
        salt = self._salt_of(job.usage.organization_id)
        for given in context.engine_inputs:
            given["prompts"]["cache_salt"] = salt
        context.request_id = job.completion_id
        try:
            await serving._prepare_generators(context)
            # From here on the engine works on it, whether or not anybody waits for it.
            job.usage.prompt_tokens = job.prompt_tokens
            await serving._collect_batch(context)
            answer = await serving._postprocessing_async(prepared.processor, context)
        except Exception as error:
            raise as_ours(error, job.model.name) from error
        return answers.shown(openai_json.object_of(bytes(answer.body)), job)
