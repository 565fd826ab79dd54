"""A private PostgreSQL, Redis and RabbitMQ for one test session, apart from any other session's."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ias_dev import ports, up, urls
from ias_dev.down import down
from ias_dev.keys import Keys
from ias_dev.report import Report
from ias_dev.settings import DevError, Ports, Settings, checkout

VARIABLES = ("IAS_TEST_DATABASE_URL", "IAS_TEST_REDIS_URL", "IAS_TEST_AMQP_URL")
_SLOTS = 8
"""How many sessions may run at once in one checkout."""


@dataclass(frozen=True, slots=True)
class TestServers:
    """Running servers, fresh at the start of the session."""

    __test__ = False  # not a class of tests

    settings: Settings
    keys: Keys
    lock: IO[str]
    """Held for as long as the session may use the folder."""

    @classmethod
    def start(cls) -> "TestServers":
        """Takes the first slot that no other session uses, cleans it, and starts the servers."""
        base = int(os.environ.get("IAS_TEST_PORT_BASE", "18080"))
        folder = checkout() / ".ias-test"
        folder.mkdir(exist_ok=True, mode=0o755)
        for slot in range(_SLOTS):
            settings = Settings(checkout(), folder / str(slot), Ports(base + 100 * slot))
            lock = _lock(folder / f"{slot}.lock")
            if lock is None:
                continue
            down(settings, Report(), purge=True)  # what an aborted session left
            if any(not ports.is_free(settings.ports.base + offset) for offset in range(40)):
                lock.close()
                continue
            return cls(settings, up.start_only_servers(settings, Report()), lock)
        raise DevError(f"No free ports for test servers from {base} on; set IAS_TEST_PORT_BASE.")

    def urls(self) -> dict[str, str]:
        """What the tests read from the environment."""
        found = (
            urls.superuser(self.settings, self.keys),
            urls.private_redis(self.settings, self.keys),
            urls.private_amqp(self.settings, self.keys),
        )
        return dict(zip(VARIABLES, found, strict=True))

    def stop(self) -> None:
        """Ends everything of the slot, the services included. Logs stay until the next session."""
        down(self.settings, Report())
        self.lock.close()


def _lock(path: Path) -> IO[str] | None:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
