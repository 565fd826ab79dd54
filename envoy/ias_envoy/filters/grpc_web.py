"""gRPC-Web, binary and text: browsers speak native gRPC from here on."""

from ias_envoy.model import Config
from ias_envoy.typed import extension


def http_filter() -> Config:
    """Turns gRPC-Web into gRPC and back."""
    return extension("envoy.filters.http.grpc_web", "filters.http.grpc_web.v3.GrpcWeb")
