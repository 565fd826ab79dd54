"""Denials: one failure, in the form that the asker understands."""

import base64
import json

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2
from envoy.type.v3 import http_status_pb2
from google.rpc import status_pb2

from ias_identity.grpc_api.routes import Form
from ias_runtime.errors import IasError
from ias_runtime.rpc import trailing_metadata

_HTTP = {
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "UNAVAILABLE": 503,
    "INTERNAL": 500,
}
_OPENAI_TYPE = {
    401: "invalid_request_error",
    403: "permission_error",
    404: "invalid_request_error",
    503: "server_error",
    500: "server_error",
}
_OPENAI_CODE = {401: "invalid_api_key", 503: "service_unavailable"}
_JSON = "application/json"


def deny(error: IasError, form: Form) -> bytes:
    """A serialised CheckResponse that refuses, body and all."""
    http = _HTTP[error.code]
    headers: dict[str, str] = {}
    if http == 401:
        headers["www-authenticate"] = "Bearer"
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    if form is Form.OPENAI:
        headers["content-type"] = _JSON
        body = _openai(error, http)
    elif form is Form.STATUS:
        headers["content-type"] = _JSON
        body = _status(error)
    else:
        # Envoy makes grpc-message of the body; grpc-status is needed wherever its own mapping
        # from HTTP differs (404 would be UNIMPLEMENTED).
        headers["content-type"] = "application/grpc"
        headers["grpc-status"] = str(grpc.StatusCode[error.code].value[0])
        details = trailing_metadata(error)[0][1]
        assert isinstance(details, bytes)
        headers["grpc-status-details-bin"] = base64.b64encode(details).decode().rstrip("=")
        body = error.message
    response = external_auth_pb2.CheckResponse(
        status=status_pb2.Status(code=grpc.StatusCode[error.code].value[0]),
        denied_response=external_auth_pb2.DeniedHttpResponse(
            status=http_status_pb2.HttpStatus(code=http),
            headers=[header(name, value) for name, value in headers.items()],
            body=body,
        ),
    )
    return bytes(response.SerializeToString())


def header(name: str, value: str) -> base_pb2.HeaderValueOption:
    """A header that takes the place of what was there; the default would append."""
    return base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=name, value=value),
        append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _openai(error: IasError, http: int) -> str:
    return json.dumps(
        {
            "error": {
                "message": error.message,
                "type": _OPENAI_TYPE[http],
                "param": "model" if error.reason == "MODEL_NOT_FOUND" else None,
                "code": _OPENAI_CODE.get(http, error.reason.lower()),
            }
        },
        ensure_ascii=False,
    )


def _status(error: IasError) -> str:
    return json.dumps(
        {
            "code": grpc.StatusCode[error.code].value[0],
            "message": error.message,
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": error.reason,
                    "domain": "ias",
                    "metadata": error.metadata,
                }
            ],
        },
        ensure_ascii=False,
    )
