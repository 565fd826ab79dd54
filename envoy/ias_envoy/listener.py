"""The one listener: HTTP/1.1, HTTP/2 with and without TLS, gRPC, gRPC-Web."""

from ias_envoy.access_log import access_log
from ias_envoy.contract import public_services
from ias_envoy.filters import (
    cors,
    ext_authz,
    grpc_field_extraction,
    grpc_web,
    json_to_metadata,
    lua,
    router,
    transcoder,
)
from ias_envoy.local_replies import local_reply_config
from ias_envoy.model import Config, Edge, socket_address
from ias_envoy.routes import ROUTES
from ias_envoy.typed import extension, message, seconds


def listener(edge: Edge, routes_source: Config) -> Config:
    """Listens at `edge.listen` and takes its routes from the source given."""
    chain: Config = {"filters": [_connection_manager(edge, routes_source)]}
    if edge.certificate is not None:
        chain["transport_socket"] = _tls(edge)
    return {
        "name": "edge",
        "address": socket_address(edge.listen),
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "socket_options": _keepalive(),
        "filter_chains": [chain],
    }


def http_filters(edge: Edge) -> list[Config]:
    """In the order of a request; an answer passes them the other way round."""
    services = public_services(edge.descriptors)
    return [
        cors.http_filter(),
        grpc_web.http_filter(),
        lua.http_filter(),
        json_to_metadata.http_filter(),
        grpc_field_extraction.http_filter(edge, services),
        ext_authz.http_filter(edge),
        transcoder.http_filter(edge, services),
        router.http_filter(),
    ]


def _connection_manager(edge: Edge, routes_source: Config) -> Config:
    return extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        {
            "stat_prefix": "edge",
            "codec_type": "AUTO",
            **_timeouts(edge),
            **_protocols(edge),
            **_addresses(edge),
            "access_log": [access_log(edge)],
            "local_reply_config": local_reply_config(),
            "rds": {"route_config_name": ROUTES, "config_source": routes_source},
            "http_filters": http_filters(edge),
        },
    )


def _timeouts(edge: Edge) -> Config:
    return {
        "request_headers_timeout": "10s",
        # To receive a whole request, however slowly; a half-sent body holds no memory for longer.
        "request_timeout": "300s",
        "stream_idle_timeout": seconds(edge.stream_idle_s),
        "common_http_protocol_options": {
            "idle_timeout": "3600s",
            "max_stream_duration": seconds(edge.stream_max_s),
            "max_headers_count": 100,
            # `x_ias_caller` and `x-ias-caller` are one name to some servers.
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
    }


def _protocols(edge: Edge) -> Config:
    return {
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 1024 * 1024,
            "initial_connection_window_size": 16 * 1024 * 1024,
            "connection_keepalive": {"interval": "60s", "timeout": "20s"},
        },
        "normalize_path": True,
        "merge_slashes": True,
        # An escaped slash belongs to a model's name; routes and transcoder read it undecoded.
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "server_header_transformation": "PASS_THROUGH",
    }


def _addresses(edge: Edge) -> Config:
    stripped: list[Config] = [
        {"remove_on_match": {"key_matcher": {"prefix": prefix, "ignore_case": True}}}
        for prefix in ("x-ias-", "x-envoy-")
    ]
    # One id for each request, and ours: logs, audit and usage are read by it.
    stripped.append({"remove": "x-request-id"})
    if edge.trusted_hops == 0:
        stripped.append({"remove": "x-forwarded-for"})
    return {
        "use_remote_address": True,
        "xff_num_trusted_hops": edge.trusted_hops,
        "generate_request_id": True,
        "always_set_request_id_in_response": True,
        "early_header_mutation_extensions": [
            extension(
                "envoy.http.early_header_mutation.header_mutation",
                "http.early_header_mutation.header_mutation.v3.HeaderMutation",
                {"mutations": stripped},
            )
        ],
    }


def _keepalive() -> list[Config]:
    # Linux's numbers; Envoy has no other way to set them on a listener.
    sol_socket, so_keepalive = 1, 9
    ipproto_tcp, tcp_keepidle, tcp_keepintvl, tcp_keepcnt = 6, 4, 5, 6
    options = (
        ("SO_KEEPALIVE", sol_socket, so_keepalive, 1),
        ("TCP_KEEPIDLE", ipproto_tcp, tcp_keepidle, 30),
        ("TCP_KEEPINTVL", ipproto_tcp, tcp_keepintvl, 10),
        ("TCP_KEEPCNT", ipproto_tcp, tcp_keepcnt, 3),
    )
    return [
        {"description": text, "level": level, "name": name, "int_value": value}
        for text, level, name, value in options
    ]


def _tls(edge: Edge) -> Config:
    chain: Config = {"filename": str(edge.certificate)}
    key: Config = {"filename": str(edge.key)}
    common: Config = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificates": [{"certificate_chain": chain, "private_key": key}],
    }
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": message(
            "transport_sockets.tls.v3.DownstreamTlsContext", {"common_tls_context": common}
        ),
    }
