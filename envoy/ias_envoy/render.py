"""Renders the three files: bootstrap.yaml, clusters.yaml (CDS), routes.yaml (RDS).

The listener is static, in the bootstrap file. Clusters and routes are file xDS: replaced while
Envoy runs (`watch`), they are in force some milliseconds later and no request notices.
"""

from collections.abc import Mapping, Sequence

import yaml

from ias_envoy.clusters import cluster_config
from ias_envoy.listener import listener
from ias_envoy.model import SERVICE_CLUSTERS, Cluster, Config, Edge, socket_address
from ias_envoy.overload import overload_manager
from ias_envoy.routes import route_configuration
from ias_envoy.typed import message

BOOTSTRAP = "bootstrap.yaml"
CLUSTERS = "clusters.yaml"
ROUTES = "routes.yaml"


def render(edge: Edge, clusters: Sequence[Cluster]) -> dict[str, Config]:
    """File name → content. Raises ValueError when a cluster that routes need is missing or twice,
    OSError when the descriptors can't be read."""
    names = [cluster.name for cluster in clusters]
    if missing := set(SERVICE_CLUSTERS) - set(names):
        raise ValueError(f"no cluster {', '.join(sorted(missing))}")
    if len(names) != len(set(names)):
        raise ValueError("two clusters have the same name")
    return {
        BOOTSTRAP: _bootstrap(edge),
        CLUSTERS: render_clusters(clusters),
        ROUTES: _resources("envoy.config.route.v3.RouteConfiguration", [route_configuration(edge)]),
    }


def render_clusters(clusters: Sequence[Cluster]) -> Config:
    """The content of clusters.yaml alone."""
    return _resources("envoy.config.cluster.v3.Cluster", map(cluster_config, clusters))


def to_yaml(content: Mapping[str, object]) -> str:
    """Block style, keys in the order in which they were put, no anchors."""
    return yaml.dump(
        dict(content), Dumper=_Readable, sort_keys=False, default_flow_style=False, width=110
    )


def _bootstrap(edge: Edge) -> Config:
    return {
        "node": {"id": "edge", "cluster": "ias"},
        "admin": {"address": socket_address(edge.admin)},
        "dynamic_resources": {"cds_config": _file_source(edge, CLUSTERS)},
        "static_resources": {"listeners": [listener(edge, _file_source(edge, ROUTES))]},
        "overload_manager": overload_manager(edge),
    }


def _file_source(edge: Edge, name: str) -> Config:
    return {
        "resource_api_version": "V3",
        "path_config_source": {
            "path": str(edge.config_directory / name),
            "watched_directory": {"path": str(edge.config_directory)},
        },
    }


def _resources(type_name: str, found: "Sequence[Config] | map[Config]") -> Config:
    return {"resources": [message(type_name, resource) for resource in found]}


class _Readable(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Scripts as they were written, instead of one escaped line.
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Readable.add_representer(str, _text)
