"""supervisord, which keeps the programs running, and the connection to it.

Programs don't start by themselves with supervisord (their order matters, and `up` knows it); once
started, whichever ends is started again at once.
"""

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

from ias_dev import commands, dotenv, sockets, waiting
from ias_dev.programs import Program
from ias_dev.settings import DevError, Settings

_DAEMON = """\
; Written by `make dev-up`.
[supervisord]
logfile = {folder}/logs/supervisord.log
logfile_maxbytes = 5MB
logfile_backups = 1
pidfile = {folder}/supervisord.pid
childlogdir = {folder}/logs
directory = {folder}
umask = 077
identifier = ias

[unix_http_server]
file = {socket}
chmod = 0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""

_PROGRAM = """
[program:{name}]
command = /bin/sh "{launcher}"
environment = IAS_DEV_DIGEST="{digest}"
{user}autostart = false
autorestart = true
startsecs = 1
startretries = 1000000
stopsignal = {signal}
stopwaitsecs = {wait}
stopasgroup = {group}
killasgroup = true
redirect_stderr = true
stdout_logfile = {folder}/logs/{name}.log
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 3
"""


@dataclass(frozen=True, slots=True)
class State:
    """One program, as supervisor sees it."""

    name: str
    state: str
    """RUNNING, STARTING, BACKOFF (failing, to be tried again), STOPPED, EXITED, FATAL."""
    pid: int
    uptime_s: int


class Supervisor:
    """The supervisord of one stack. Methods but `alive` and `start` need it to run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.folder
        self._socket = sockets.path(settings.folder, "supervisor")

    @property
    def configuration(self) -> Path:
        """supervisord's configuration file."""
        return self._folder / "supervisord.conf"

    @property
    def pid(self) -> int:
        """supervisord's own pid; 0 when it doesn't run."""
        try:
            return int(self._call("getPID"))
        except (OSError, Fault):
            return 0

    def alive(self) -> bool:
        """Whether supervisord runs and answers."""
        return self.pid != 0

    def start(self) -> None:
        """Starts supervisord in the background when it doesn't run."""
        if self.alive():
            return
        self._settings.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        commands.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.configuration)]
        )
        waiting.until(lambda: self._call("getState"), "supervisord", timeout_s=15)

    def configure(self, programs: Sequence[Program]) -> None:
        """Writes the configuration for exactly these programs."""
        folder = _plain(self._folder)
        text = _DAEMON.format(folder=folder, socket=_plain(self._socket))
        for program in programs:
            text += _PROGRAM.format(
                name=program.name,
                launcher=_plain(program.launcher),
                digest=program.digest(),
                user=f"user = {program.user}\n" if program.user else "",
                signal=program.stop_signal,
                wait=program.stop_wait_s,
                group=str(program.stop_as_group).lower(),
                folder=folder,
            )
        dotenv.write_private(self.configuration, text)

    def reload(self) -> None:
        """Makes supervisord follow the configuration: what changed or went away is stopped."""
        added, changed, removed = self._call("reloadConfig")[0]
        for name in (*changed, *removed):
            self._call("stopProcessGroup", name)
            self._call("removeProcessGroup", name)
        for name in (*changed, *added):
            self._call("addProcessGroup", name)

    def run(self, name: str) -> bool:
        """Starts a program without waiting for it. False when it was running already."""
        if self.state(name).state in ("RUNNING", "STARTING"):
            return False
        if self.state(name).state == "BACKOFF":
            self.stop(name)
        self._call("startProcess", name, False)
        return True

    def stop(self, name: str) -> None:
        """Stops a program and waits for its end. Does nothing when it is not running."""
        try:
            self._call("stopProcess", name, True)
        except Fault as fault:
            if "NOT_RUNNING" not in fault.faultString:
                raise

    def signal(self, name: str, signal: str) -> None:
        """Sends a signal, by its name without SIG, to a running program."""
        self._call("signalProcess", name, signal)

    def state(self, name: str) -> State:
        """One program. Raises DevError when there is none of that name."""
        for state in self.states():
            if state.name == name:
                return state
        raise DevError(f"This stack has no program {name!r}.")

    def states(self) -> list[State]:
        """Every program."""
        return [
            State(
                name=info["name"],
                state=info["statename"],
                pid=info["pid"],
                uptime_s=max(0, info["now"] - info["start"]) if info["pid"] else 0,
            )
            for info in self._call("getAllProcessInfo")
        ]

    def shutdown(self, programs: Iterable[str]) -> None:
        """Stops the programs in the given order, then supervisord itself, and waits for its end."""
        known = {state.name for state in self.states()}
        for name in programs:
            if name in known:
                self.stop(name)
        pid = self.pid
        self._call("shutdown")
        ends = time.monotonic() + 60
        while Path(f"/proc/{pid}").exists():
            if time.monotonic() > ends:
                raise DevError(f"supervisord (pid {pid}) did not end within 60 s.")
            time.sleep(0.05)

    def _call(self, method: str, *arguments: object) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        with ServerProxy("http://127.0.0.1", transport=transport) as server:
            return getattr(server.supervisor, method)(*arguments)


def _plain(path: Path) -> str:
    """A path as supervisor's configuration can hold it. Raises DevError when it can't."""
    found = str(path)
    # A % begins an expansion, which supervisor makes twice for some settings and once for others.
    if any(character in found for character in '%";\n\\'):
        raise DevError(f"A stack can't live in {found}: its path may hold no % \" ; or \\.")
    return found
