"""Hands new files to a running Envoy, which watches the directory for renames.

Clusters go first, then routes: a route must never name a cluster that isn't there yet.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from ias_envoy.render import BOOTSTRAP, CLUSTERS, ROUTES, to_yaml

_ORDER = (BOOTSTRAP, CLUSTERS, ROUTES)


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
