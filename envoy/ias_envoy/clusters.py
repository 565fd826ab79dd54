"""Clusters: where requests go, and how Envoy notices that a process is gone."""

import ipaddress
from itertools import zip_longest

from ias_envoy.model import Cluster, Config, address_of
from ias_envoy.typed import message

_HIGH = 1_000_000
_LIMITS: Config = {
    # Admission is decided by leases and limits; these only must never be what refuses.
    "max_connections": _HIGH,
    "max_pending_requests": _HIGH,
    "max_requests": _HIGH,
    "max_retries": 1000,
}


def cluster_config(cluster: Cluster) -> Config:
    """One cluster of gRPC services."""
    return {
        "name": cluster.name,
        "type": "STATIC" if all(map(_is_numeric, cluster.endpoints)) else "STRICT_DNS",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {
            "cluster_name": cluster.name,
            "endpoints": [
                {
                    "lb_endpoints": [
                        _endpoint(endpoint, weight)
                        for endpoint, weight in zip_longest(cluster.endpoints, cluster.weights)
                    ]
                }
            ],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": message(
                "upstreams.http.v3.HttpProtocolOptions",
                {"explicit_http_config": {"http2_protocol_options": _http2()}},
            )
        },
        "upstream_connection_options": {
            "tcp_keepalive": {
                "keepalive_probes": 3,
                "keepalive_time": 30,
                "keepalive_interval": 10,
            }
        },
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "circuit_breakers": {"thresholds": [_LIMITS]},
        "health_checks": [_health_check()],
        "outlier_detection": _outlier_detection(),
        # With not one healthy process left, trying beats refusing: a lone process that was only
        # slow to answer its health check must not turn into an outage.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
    }


def _endpoint(address: str, weight: int | None) -> Config:
    found: Config = {"endpoint": {"address": address_of(address)}}
    return found if weight is None else found | {"load_balancing_weight": weight}


def _is_numeric(endpoint: str) -> bool:
    if endpoint.startswith("unix:"):
        return True
    try:
        ipaddress.ip_address(endpoint.rpartition(":")[0].strip("[]"))
    except ValueError:
        return False
    return True


def _http2() -> Config:
    return {
        # A slow reader may hold a stream's window, so the connection's must hold many of them.
        "initial_stream_window_size": 256 * 1024,
        "initial_connection_window_size": 64 * 1024 * 1024,
        # Not below 10 s: grpc servers end a connection that pings more often.
        "connection_keepalive": {"interval": "30s", "timeout": "10s"},
    }


def _health_check() -> Config:
    return {
        "timeout": "1s",
        "interval": "1s",
        "no_traffic_interval": "1s",
        "unhealthy_threshold": 3,
        "healthy_threshold": 1,
        "grpc_health_check": {},
    }


def _outlier_detection() -> Config:
    # Connection failures alone: a 503 that a service answers is about its engine or budget, and
    # ejecting the process for it would punish everyone else's requests.
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 3,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "interval": "1s",
        "base_ejection_time": "1s",
        "max_ejection_time": "10s",
        "max_ejection_percent": 100,
    }
