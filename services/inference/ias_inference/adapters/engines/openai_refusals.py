"""What it means that a server answered with another status than 200.

Whether the request is at fault, or the server, or how it was registered: a 404 can be each of them.
Servers that don't know the model say so in JSON (vLLM, OpenAI, Ollama); those that lack a path
answer FastAPI's `{"detail":"Not Found"}`, or its like, or no JSON at all.
"""

import re

from ias_inference.adapters.engines.openai_json import ServerError, error_of
from ias_inference.domain.engines import Job, Operation
from ias_inference.domain.errors import EngineFailed, EngineRefused, Unsupported
from ias_runtime.errors import IasError

_OURS_TO_FIX = frozenset({401, 403, 407})
"""Refusals that are about the registration, not about the client's request."""
_ABSENT = frozenset({404, 405, 501})
"""What servers answer where they lack an operation, or the model."""
_UNKNOWN_MODEL = re.compile(r"\bmodel\b.*\b(does not exist|not found)", re.IGNORECASE | re.DOTALL)
_UNKNOWN_PATH = re.compile(r"(file )?not found\.?$|method not allowed|invalid url", re.IGNORECASE)


def meaning(job: Job, status: int, body: bytes) -> IasError:
    """What the client is told. What only an operator can mend is a failure of the engine."""
    model, operation = job.model.name, job.request.operation
    error = error_of(body)
    told = error.message if error is not None else ""
    if status in _ABSENT:
        if error is not None and _is_of_model(error):
            return EngineFailed(model, "doesn't know the model by the name it is registered", told)
        if operation is not Operation.CHAT:
            return Unsupported(model, operation.feature)
        if error is None or _UNKNOWN_PATH.match(told):
            # A chat model without chats: nothing but the URL can be wrong.
            return EngineFailed(model, "has no chat completions at its registered URL", told)
    if 400 <= status < 500 and status not in _OURS_TO_FIX:
        error = error or ServerError("it gave no reason")
        return EngineRefused(model, status, error.message, error.field)
    return EngineFailed(model, f"answered with status {status}", told)


def _is_of_model(error: ServerError) -> bool:
    if error.code == "model_not_found" or error.field == "model":
        return True
    return _UNKNOWN_MODEL.search(error.message) is not None
