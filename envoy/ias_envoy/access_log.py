"""The access log: one line of JSON for each request, with no secret in it.

Neither headers that carry credentials nor query strings are written, whatever a client puts there.
"""

from ias_envoy.model import Config, Edge
from ias_envoy.typed import extension

_FIELDS: Config = {
    "time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "user_agent": "%REQ(USER-AGENT)%",
    "route": "%ROUTE_NAME%",
    "upstream": "%UPSTREAM_CLUSTER%",
    "upstream_host": "%UPSTREAM_HOST%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "duration_ms": "%DURATION%",
    "request_ms": "%REQUEST_DURATION%",
    "first_byte_ms": "%RESPONSE_DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    # What identity says of the caller in its answer's dynamic metadata: ids, never a key.
    "caller": "%DYNAMIC_METADATA(envoy.filters.http.ext_authz)%",
}


def access_log(edge: Edge) -> Config:
    """For every request, answered or not."""
    return extension(
        "envoy.access_loggers.file",
        "access_loggers.file.v3.FileAccessLog",
        {"path": edge.access_log, "log_format": {"json_format": _FIELDS}},
    )
