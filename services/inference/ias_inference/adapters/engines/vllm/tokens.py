"""TOKENIZE and DETOKENIZE by vLLM's serving object; no model runs."""

from typing import Any

from pydantic import TypeAdapter
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.tokenize.protocol import DetokenizeRequest, TokenizeRequest

from ias_inference.adapters.engines.vllm.fields import values_of
from ias_inference.adapters.engines.vllm.process import Process
from ias_inference.adapters.engines.vllm.refusals import as_ours, refused
from ias_inference.domain.engines import Job, Operation

_tokenize: TypeAdapter[Any] = TypeAdapter(TokenizeRequest)


class Tokens:
    """The tokenizer of one vLLM."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def complete(self, job: Job) -> bytes:
        """vLLM's own answer. Raises EngineRefused, InvalidRequest."""
        fields = values_of(job.request.body)
        fields["model"] = self._process.names[0]
        serving = self._process.state.serving_tokenization
        try:
            if job.request.operation is Operation.TOKENIZE:
                answer = await serving.create_tokenize(_tokenize.validate_python(fields), None)
            else:
                answer = await serving.create_detokenize(DetokenizeRequest(**fields), None)
        except Exception as error:
            raise as_ours(error, job.model.name) from error
        if isinstance(answer, ErrorResponse):
            raise refused(answer, job.model.name)
        text: str = answer.model_dump_json()
        return text.encode()
