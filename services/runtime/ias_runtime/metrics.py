"""Prometheus metrics, on a port of their own that Envoy does not route to."""

from prometheus_client import Counter, Histogram, start_http_server

CALLS = Counter("ias_grpc_calls", "Calls handled.", ["method", "code"])
LATENCY = Histogram(
    "ias_grpc_duration_seconds",
    "From a call's arrival to its end.",
    ["method"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 300),
)


def serve(listen: str) -> None:
    """Serves /metrics on host:port from a thread; an empty address serves nothing."""
    if listen:
        host, _, port = listen.rpartition(":")
        start_http_server(int(port), addr=host)
