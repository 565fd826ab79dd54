"""The clusters of models that have adapter processes of their own.

Inference publishes them with the routing table (ias.inference.v1.RoutingTable) in Redis. Routes
don't name them: identity does, request by request, in `x-ias-upstream`.
"""

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis
import yaml
from google.protobuf.message import DecodeError
from ias.inference.v1 import routing_pb2

from ias_envoy.model import Cluster
from ias_envoy.render import CLUSTERS

KEY = "ias.models.routing"
"""A hash of `registry`, `version` and `table`."""
PREFIX = "model:"
"""Of the names of these clusters."""
LINGER_S = 10.0
"""For which a cluster that is no longer published stays: identity may still name it."""
_TIMEOUT_S = 2.0


class PublishedTable:
    """The routing table, read when it has changed."""

    def __init__(self, redis_url: str) -> None:
        self._client = redis.Redis.from_url(
            redis_url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
        )
        self._seen: list[bytes | str | None] = []

    def changed(self) -> list[Cluster] | None:
        """The clusters of a table that wasn't read before; None when there is no such table.

        Raises redis.RedisError while Redis is away.
        """
        seen = self._client.hmget(KEY, ["registry", "version"])
        if None in seen or seen == self._seen:
            return None
        stored = self._client.hget(KEY, "table")
        self._seen = seen
        if not isinstance(stored, bytes):
            return None
        try:
            return clusters_of(routing_pb2.RoutingTable.FromString(stored))
        except DecodeError:
            print("ias-envoy: routing table not understood", file=sys.stderr, flush=True)
            return None


def clusters_of(table: routing_pb2.RoutingTable) -> list[Cluster]:
    """The clusters that a routing table names, less those that Envoy could only misunderstand."""
    found = []
    for model in table.models:
        if not model.cluster.startswith(PREFIX):
            continue
        addresses = tuple(endpoint.address for endpoint in model.endpoints)
        weights = tuple(endpoint.weight or 1 for endpoint in model.endpoints)
        try:
            found.append(Cluster(model.cluster, addresses, weights))
        except ValueError as error:
            print(f"ias-envoy: model {model.name} left out: {error}", file=sys.stderr, flush=True)
    return found


@dataclass(slots=True)
class _Held:
    cluster: Cluster
    gone_at: float | None = None


class AdapterClusters:
    """What Envoy should have by now."""

    def __init__(self, known: Iterable[Cluster] = ()) -> None:
        self._held = {cluster.name: _Held(cluster) for cluster in known}

    def update(self, published: Sequence[Cluster]) -> None:
        """Takes over what was published; what is missing there stays for LINGER_S."""
        now = time.monotonic()
        for cluster in published:
            self._held[cluster.name] = _Held(cluster)
        names = {cluster.name for cluster in published}
        for name, held in self._held.items():
            if name not in names and held.gone_at is None:
                held.gone_at = now

    def current(self) -> list[Cluster]:
        """By name."""
        now = time.monotonic()
        self._held = {
            name: held
            for name, held in sorted(self._held.items())
            if held.gone_at is None or now < held.gone_at + LINGER_S
        }
        return [held.cluster for held in self._held.values()]


def written(directory: Path) -> list[Cluster]:
    """The clusters of adapters in the clusters.yaml of a directory; none without such a file.

    Whoever renders the services' clusters anew must not take these away.
    """
    try:
        content = yaml.safe_load((directory / CLUSTERS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return [
        _read(resource) for resource in content["resources"] if resource["name"].startswith(PREFIX)
    ]


def _read(resource: dict[str, object]) -> Cluster:
    assignment = resource["load_assignment"]
    assert isinstance(assignment, dict)
    endpoints = assignment["endpoints"][0]["lb_endpoints"]
    addresses = [one["endpoint"]["address"]["socket_address"] for one in endpoints]
    return Cluster(
        str(resource["name"]),
        tuple(f"{_host(one['address'])}:{one['port_value']}" for one in addresses),
        tuple(one["load_balancing_weight"] for one in endpoints),
    )


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
