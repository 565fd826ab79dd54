"""Hands new files to a running Envoy, which watches the directory for renames.

Clusters go first, then routes: a route must never name a cluster that isn't there yet.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import redis

from ias_envoy.adapters import AdapterClusters, PublishedTable, written
from ias_envoy.model import Cluster
from ias_envoy.render import BOOTSTRAP, CLUSTERS, ROUTES, render_clusters, to_yaml

POLL_S = 0.25
_ORDER = (BOOTSTRAP, CLUSTERS, ROUTES)


def follow(
    directory: Path,
    services: Sequence[Cluster],
    redis_url: str,
    *,
    going_on: Callable[[], bool] = lambda: True,
) -> None:
    """Keeps clusters.yaml in step with the registry of models, until `going_on` says no.

    Routes stay as they are: they name no cluster of a model (see adapters). While Redis is away,
    or empty, the clusters stay too. Raises OSError when the file can't be written.
    """
    adapters = AdapterClusters(written(directory))
    table = PublishedTable(redis_url)
    failing = False
    held: list[Cluster] | None = None
    while going_on():
        try:
            published = table.changed()
            failing = False
        except redis.RedisError as error:
            published = None
            if not failing:
                print(f"ias-envoy: Redis is away: {error!r}", file=sys.stderr, flush=True)
            failing = True
        if published is not None:
            adapters.update(published)
        current = adapters.current()
        if current != held and write({CLUSTERS: render_clusters([*services, *current])}, directory):
            names = ", ".join(cluster.name for cluster in current) or "none"
            print(f"clusters of models: {names}", flush=True)
        held = current
        time.sleep(POLL_S)


def write(files: Mapping[str, Mapping[str, object]], directory: Path) -> list[str]:
    """Writes what `render` made and returns the names of the files that changed, in order.

    Each file is whole at every moment. A change of bootstrap.yaml needs a new Envoy process.
    Raises OSError, with all files as they were or some of them new.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return [name for name in _ORDER if name in files and _replace(directory / name, files[name])]


def _replace(path: Path, content: Mapping[str, object]) -> bool:
    text = to_yaml(content)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    # In the same directory, for a rename is atomic within one file system only.
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_text(text, encoding="utf-8")
    os.rename(unfinished, path)
    return True
