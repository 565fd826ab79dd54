"""What an operator decides about the front door; all else follows from it and the contracts."""

from dataclasses import dataclass
from pathlib import Path

Config = dict[str, object]
"""A piece of Envoy configuration, as YAML will show it."""

MAX_BODY_BYTES = 32 * 1024 * 1024 - 64 * 1024
"""Services take messages of 32 MiB; the rest is room for what wraps a body into a message."""

SERVICE_CLUSTERS = ("identity", "metering", "inference")
"""The clusters that routes name; further ones are chosen by identity, request by request."""


@dataclass(frozen=True, slots=True)
class Edge:
    """The front door of one Envoy process."""

    listen: str
    """host:port for clients."""
    admin: str
    """host:port of Envoy's admin interface; never reachable from outside."""
    descriptors: Path
    """The descriptor set of the contracts, with imports (gen/descriptors.binpb)."""
    config_directory: Path
    """Where clusters.yaml and routes.yaml will lie, and be watched by Envoy."""
    certificate: Path | None = None
    """TLS certificate chain in PEM; None for plain text (then TLS ends before Envoy)."""
    key: Path | None = None
    """Its private key in PEM; given exactly when the certificate is."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call, as `https://portal.example`, or `*`."""
    trusted_hops: int = 0
    """Proxies in front of Envoy whose x-forwarded-for is believed."""
    access_log: str = "/dev/stdout"
    """File that gets one line of JSON for each request."""
    max_body_bytes: int = MAX_BODY_BYTES
    """Larger request bodies are answered with 413."""
    max_connections: int = 20_000
    """Clients' connections at once; more are refused."""
    max_heap_bytes: int = 2 * 1024 * 1024 * 1024
    """Near this Envoy first resets its hungriest streams, then refuses requests."""
    authz_timeout_s: float = 2.0
    """For identity's answer; after it the client gets 503."""
    stream_idle_s: int = 300
    """A stream on which nothing moves ends after this."""
    stream_max_s: int = 3600
    """Any stream ends after this."""

    def __post_init__(self) -> None:
        """Raises ValueError for what Envoy could only misunderstand."""
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key come together")
        for address in (self.listen, self.admin):
            socket_address(address)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Processes that serve the same, over gRPC without TLS (h2c)."""

    name: str
    """What routes and `x-ias-upstream` call it."""
    endpoints: tuple[str, ...]
    """One for each process, as host:port or unix:path. Processes that share a port through
    SO_REUSEPORT would not share the load: Envoy holds one connection per worker and endpoint."""
    weights: tuple[int, ...] = ()
    """Shares of the requests, one for each endpoint; empty for equal ones."""

    def __post_init__(self) -> None:
        """Raises ValueError without endpoints, and for a malformed one."""
        if self.weights and len(self.weights) != len(self.endpoints):
            raise ValueError(f"cluster {self.name!r} needs a weight for each endpoint")
        if not self.endpoints:
            raise ValueError(f"cluster {self.name!r} needs an endpoint")
        for endpoint in self.endpoints:
            address_of(endpoint)


def socket_address(address: str) -> Config:
    """host:port as Envoy wants it. Raises ValueError when it isn't host:port."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not host:port")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def address_of(endpoint: str) -> Config:
    """host:port or unix:path as Envoy wants it. Raises ValueError for anything else."""
    if endpoint.startswith("unix:"):
        return {"pipe": {"path": endpoint.removeprefix("unix:")}}
    return socket_address(endpoint)
