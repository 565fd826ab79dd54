"""Failures in OpenAI's shape: body, HTTP status, headers. one table:

400 invalid_request_error · 401 invalid_api_key · 403 permission_error · 404 model_not_found ·
429 insufficient_quota or rate_limit_exceeded · 500 server_error · 503 service_unavailable · 504.
"""

from dataclasses import dataclass

import msgspec

from ias_inference.domain.errors import EngineRefused
from ias_runtime.errors import IasError

Metadata = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class OpenAIError:
    """What a client of the OpenAI surface sees of a failure."""

    status: int
    """Of HTTP."""
    body: bytes
    headers: Metadata


_KINDS: dict[str, tuple[int, str, str | None]] = {
    # canonical code: HTTP status, type, code
    "INVALID_ARGUMENT": (400, "invalid_request_error", None),
    "FAILED_PRECONDITION": (400, "invalid_request_error", None),
    "UNAUTHENTICATED": (401, "invalid_request_error", "invalid_api_key"),
    "PERMISSION_DENIED": (403, "permission_error", "permission_denied"),
    "NOT_FOUND": (404, "invalid_request_error", "model_not_found"),
    "RESOURCE_EXHAUSTED": (429, "requests", "rate_limit_exceeded"),
    "UNAVAILABLE": (503, "server_error", "service_unavailable"),
    "DEADLINE_EXCEEDED": (504, "server_error", "timeout"),
}
_INTERNAL = (500, "server_error", None)
_BY_REASON = {
    "INSUFFICIENT_QUOTA": (429, "insufficient_quota", "insufficient_quota"),
    "CONTEXT_LENGTH_EXCEEDED": (400, "invalid_request_error", "context_length_exceeded"),
    "MODEL_MISMATCH": (400, "invalid_request_error", "model_mismatch"),
}


def to_openai(error: IasError) -> OpenAIError:
    """The failure as OpenAI would say it."""
    status, kind, code = _BY_REASON.get(error.reason) or _KINDS.get(error.code, _INTERNAL)
    if isinstance(error, EngineRefused):
        status = error.status
        if status == 429:
            kind, code = "requests", "rate_limit_exceeded"
    param = error.metadata.get("field") or ("model" if status == 404 else None)
    headers: Metadata = []
    if kind == "insufficient_quota":
        headers.append(("x-should-retry", "false"))
    if error.retry_after_s is not None:
        headers.append(("retry-after", str(max(1, round(error.retry_after_s)))))
    elif status in (429, 503) and kind != "insufficient_quota":
        headers.append(("retry-after", "1"))
    body = {"error": {"message": error.message, "type": kind, "param": param, "code": code}}
    return OpenAIError(status, msgspec.json.encode(body), headers)
