"""What ias-admin remembers between runs: the address of IAS and the sessions opened there.

One YAML file, readable by its owner alone, replaced as a whole. Sessions are kept by address, so
that no token is ever sent to another server than the one that gave it.
"""

import copy
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from ias_admin import values
from ias_admin.errors import CliError


@dataclass(frozen=True)
class Session:
    """The tokens of a person who signed in."""

    email: str
    access_token: str = field(repr=False)
    access_expire_time: datetime
    refresh_token: str = field(repr=False)
    refresh_expire_time: datetime
    automatic: bool = False
    """Whether it was opened by IAS_ADMIN_EMAIL and IAS_ADMIN_PASSWORD rather than by `login`."""


@dataclass
class Config:
    """The file's content."""

    address: str | None = None
    output: str | None = None
    sessions: dict[str, Session] = field(default_factory=dict)
    """By address."""


class ConfigFile:
    """The file at a path, which need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))

    def read(self) -> Config:
        """The content; the default one when there is no file. Raises CliError for a broken one."""
        try:
            return _parsed(yaml.safe_load(self.path.read_text(encoding="utf-8")) or {})
        except FileNotFoundError:
            return Config()
        except OSError as error:
            raise CliError(f"{self.path} can't be read: {error.strerror}.", _ELSEWHERE) from None
        except (CliError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError):
            raise CliError(
                f"{self.path} is not a configuration of ias-admin.",
                "Delete it and sign in again, or point IAS_CONFIG elsewhere.",
            ) from None

    @contextmanager
    def edit(self) -> Iterator[Config]:
        """Yields the content to be changed in place, with every other ias-admin locked out, and
        writes it back if it was changed and the block did not raise."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            config = self.read()
            before = copy.deepcopy(config)
            yield config
            if config != before:
                self._write(config)
        finally:
            os.close(lock)

    def _write(self, config: Config) -> None:
        # mkstemp makes the file 0600 before a byte is in it.
        try:
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    yaml.safe_dump(_plain(config), file, sort_keys=False)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self.path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise _unwritable(self.path, error) from None


_ELSEWHERE = "Choose another file with --config or IAS_CONFIG."


def _unwritable(path: Path, error: OSError) -> CliError:
    return CliError(f"{path} can't be written: {error.strerror}.", _ELSEWHERE)


def default_path(environ: Mapping[str, str]) -> Path:
    """IAS_CONFIG, or ~/.ias-admin/config.yaml."""
    return Path(environ.get("IAS_CONFIG") or "~/.ias-admin/config.yaml").expanduser()


def _parsed(data: dict[str, Any]) -> Config:
    sessions = {
        address: Session(
            email=str(entry["email"]),
            access_token=str(entry["access_token"]),
            access_expire_time=values.moment(str(entry["access_expire_time"])),
            refresh_token=str(entry["refresh_token"]),
            refresh_expire_time=values.moment(str(entry["refresh_expire_time"])),
            automatic=bool(entry.get("automatic", False)),
        )
        for address, entry in (data.get("sessions") or {}).items()
    }
    return Config(data.get("address"), data.get("output"), sessions)


def _plain(config: Config) -> dict[str, Any]:
    settings = {"address": config.address, "output": config.output}
    plain: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
    plain["sessions"] = {
        address: {
            "email": session.email,
            "access_token": session.access_token,
            "access_expire_time": values.iso(session.access_expire_time),
            "refresh_token": session.refresh_token,
            "refresh_expire_time": values.iso(session.refresh_expire_time),
            "automatic": session.automatic,
        }
        for address, session in config.sessions.items()
    }
    return plain
