"""Envoy's own answers, in the shape that the client expects.

OpenAI's shape under /v1, google.rpc.Status for all other HTTP. Native gRPC and gRPC-Web are never
touched: Envoy says it in `grpc-status` and `grpc-message` there. A denial is identity's to word,
so it passes as it is.
"""

from dataclasses import dataclass

from ias_envoy.model import Config
from ias_envoy.typed import extension

_ORIGINAL_PATH = "x-envoy-original-path"  # set by the transcoder, which also hides the content type
_URL = "%REQ(:METHOD)% %PATH(NQ)%"


@dataclass(frozen=True, slots=True)
class Reply:
    """What one kind of failure is answered with."""

    when: Config
    """Envoy's filter for it."""
    message: str
    type: str
    """OpenAI's error type."""
    code: str | None
    """OpenAI's error code."""
    rpc_code: int
    """google.rpc.Code."""
    retry_after_s: int | None = None


def local_reply_config() -> Config:
    """The first mapper that fits wins."""
    return {
        "mappers": [
            _denial(),
            *(_openai(reply) for reply in _REPLIES),
            *(_status(reply) for reply in _REPLIES),
        ]
    }


def _denial() -> Config:
    return {
        "filter": _all(_flags("UAEX"), _negated_authz_error()),
        "body_format_override": {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": "application/json",
        },
    }


def _openai(reply: Reply) -> Config:
    error: Config = {
        "message": reply.message,
        "type": reply.type,
        "param": None,
        "code": reply.code,
    }
    under_v1 = _any(
        _header(_ORIGINAL_PATH, {"prefix": "/v1/"}),
        _all(_header(":path", {"prefix": "/v1/"}), _is_not_grpc()),
    )
    return _mapper(reply, under_v1, {"error": error})


def _status(reply: Reply) -> Config:
    is_rest = _any(_present(_ORIGINAL_PATH), _is_not_grpc())
    return _mapper(reply, is_rest, {"code": reply.rpc_code, "message": reply.message})


def _mapper(reply: Reply, surface: Config, body: Config) -> Config:
    mapper: Config = {
        "filter": _all(reply.when, surface),
        "body_format_override": {"json_format": body, "content_type": "application/json"},
    }
    if reply.retry_after_s is not None:
        mapper["headers_to_add"] = [
            {
                "header": {"key": "retry-after", "value": str(reply.retry_after_s)},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ]
    return mapper


def _all(*filters: Config) -> Config:
    return {"and_filter": {"filters": list(filters)}}


def _any(*filters: Config) -> Config:
    return {"or_filter": {"filters": list(filters)}}


def _flags(*flags: str) -> Config:
    return {"response_flag_filter": {"flags": list(flags)}}


def _code(op: str, value: int) -> Config:
    comparison: Config = {"op": op, "value": {"default_value": value, "runtime_key": "none"}}
    return {"status_code_filter": {"comparison": comparison}}


def _header(name: str, match: Config) -> Config:
    return {"header_filter": {"header": {"name": name, "string_match": match}}}


def _present(name: str) -> Config:
    return {"header_filter": {"header": {"name": name, "present_match": True}}}


def _is_not_grpc() -> Config:
    header: Config = {
        "name": "content-type",
        "string_match": {"prefix": "application/grpc"},
        "invert_match": True,
        "treat_missing_header_as_empty": True,
    }
    return {"header_filter": {"header": header}}


def _negated_authz_error() -> Config:
    # Identity may deny with 503 as well, so the status doesn't tell its denial from its silence.
    return {
        "extension_filter": extension(
            "envoy.access_loggers.extension_filters.cel",
            "access_loggers.filters.cel.v3.ExpressionFilter",
            {"expression": "response.code_details != 'ext_authz_error'"},
        )
    }


_REPLIES = (
    Reply(
        _flags("UAEX"),
        "Credentials can't be checked at the moment; try again shortly.",
        "server_error",
        "service_unavailable",
        14,
        retry_after_s=1,
    ),
    Reply(
        _flags("NC"),
        "No engine is set up for this model at the moment; try again shortly.",
        "server_error",
        "service_unavailable",
        14,
        retry_after_s=1,
    ),
    Reply(
        _flags("UF", "UH", "UC", "URX"),
        "The service is not reachable at the moment; try again shortly.",
        "server_error",
        "service_unavailable",
        14,
        retry_after_s=1,
    ),
    Reply(
        _code("EQ", 503),
        "The service is overloaded; try again shortly.",
        "server_error",
        "service_unavailable",
        14,
        retry_after_s=1,
    ),
    Reply(
        _code("EQ", 404), f"Unknown request URL: {_URL}", "invalid_request_error", "unknown_url", 5
    ),
    Reply(
        _code("EQ", 413),
        "The request body is too large.",
        "invalid_request_error",
        "request_too_large",
        3,
    ),
    Reply(
        _code("EQ", 429),
        "Too many requests; try again shortly.",
        "requests",
        "rate_limit_exceeded",
        8,
        retry_after_s=1,
    ),
    Reply(_code("EQ", 504), "The request took too long.", "server_error", "timeout", 4),
    Reply(_code("EQ", 408), "The request took too long.", "invalid_request_error", "timeout", 4),
    Reply(_code("EQ", 403), "%LOCAL_REPLY_BODY%", "permission_error", None, 7),
    Reply(_code("GE", 500), "The service failed to answer.", "server_error", None, 13),
    Reply(_code("GE", 400), "%LOCAL_REPLY_BODY%", "invalid_request_error", None, 3),
)
