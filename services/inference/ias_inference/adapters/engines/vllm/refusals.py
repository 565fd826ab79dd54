"""vLLM's errors as ours: what is the client's to mend, with the field; what is the engine's."""

from pydantic import ValidationError
from vllm.entrypoints.serve import create_error_response
from vllm.entrypoints.serve.engine.protocol import ErrorInfo, ErrorResponse
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from ias_inference.domain.errors import EngineFailed, EngineRefused, InvalidRequest, Unsupported
from ias_runtime.errors import IasError

_NOT_FOUND = 404
"""Of a model: then the registration is wrong, not the request."""
_NOT_IMPLEMENTED = 501
_MAX_MESSAGE = 2000


def as_ours(error: Exception, model: str) -> IasError:
    """What an exception out of vLLM means."""
    match error:
        case IasError():
            return error
        case ValidationError():
            return _invalid(error)
        case EngineDeadError():
            return EngineFailed(model, "has died", repr(error))
        case EngineGenerateError():
            return EngineFailed(model, "broke off its answer", repr(error.__cause__ or error))
    return refused(create_error_response(error), model, cause=repr(error))


def refused(answer: ErrorResponse, model: str, cause: str = "") -> IasError:
    """What an error object of vLLM's means; its `code` is an HTTP status."""
    return _from_info(answer.error, model, cause)


def _from_info(info: ErrorInfo, model: str, cause: str) -> IasError:
    message, field = info.message[:_MAX_MESSAGE], info.param or ""
    if info.code == _NOT_IMPLEMENTED:
        return Unsupported(model, message)
    if 400 <= info.code < 500 and info.code != _NOT_FOUND:
        return EngineRefused(model, info.code, message, field)
    return EngineFailed(model, "failed", cause or message)


def _invalid(error: ValidationError) -> InvalidRequest:
    """The first thing that vLLM's own request types find fault with."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    return InvalidRequest(field, f"Invalid value for '{field}': {what}." if field else what)
