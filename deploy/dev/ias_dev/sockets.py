"""Where the Unix sockets of a stack are."""

import hashlib
import os
import tempfile
from pathlib import Path

from ias_dev.settings import DevError

_LONGEST_PATH = 100
"""A little less than the 108 bytes that Linux allows: supervisord adds its pid while binding."""


def path(folder: Path, name: str) -> Path:
    """In the stack's folder, or in the temporary directory when that path is too long for one.

    Raises DevError when somebody else owns that directory.
    """
    found = folder / f"{name}.sock"
    if len(os.fsencode(found)) <= _LONGEST_PATH:
        return found
    key = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    private = Path(tempfile.gettempdir()) / f"ias-{os.geteuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    if private.stat().st_uid != os.geteuid():
        raise DevError(f"{private} belongs to another user; remove it.")
    return private / f"{key}-{name}.sock"
