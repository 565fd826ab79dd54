"""Which ports are taken, and by whom."""

import socket
from collections.abc import Iterable
from pathlib import Path

from ias_dev.settings import HOST, DevError

_LISTEN = "0A"


def require_free(ports: Iterable[tuple[int, str]]) -> None:
    """Raises DevError naming the first taken port of (port, what wants it), and who has it."""
    for port, title in ports:
        if not is_free(port):
            owner = owner_of(port)
            by = f" by {owner}" if owner else ""
            raise DevError(
                f"Port {port}, which {title} needs, is in use{by}. "
                "End that, or choose other ports: IAS_DEV_PORT_BASE=28080 make dev-up"
            )


def is_free(port: int) -> bool:
    """Whether a program could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def owner_of(port: int) -> str:
    """The process that listens on the port, as `name (pid 123)`; empty when it can't be told."""
    inodes = {f"socket:[{inode}]" for inode in _listening(port)}
    for process in Path("/proc").iterdir() if inodes else ():
        if not process.name.isdigit():
            continue
        try:
            if any(str(fd.readlink()) in inodes for fd in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:  # ended meanwhile, or another user's
            continue
    return ""


def _listening(port: int) -> set[str]:
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not table.exists():
            continue
        for line in table.read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == _LISTEN and int(columns[1].rsplit(":", 1)[1], 16) == port:
                found.add(columns[9])
    return found
