"""ias-admin, run against an IAS in memory behind a real gRPC port."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ias.access.v1.access_pb2 import ROLE_ORG_ADMIN, ROLE_ORG_USER, ROLE_SYSTEM_ADMIN
from typer.testing import CliRunner, Result

from ias_admin.__main__ import app

from .fake_ias import ADMIN_EMAIL, PASSWORD, FakeIas
from .servicers import served


@pytest.fixture
def ias() -> Iterator[FakeIas]:
    """An IAS with a System Admin, two organisations, and people in the first."""
    fake = FakeIas()
    server = served(fake)
    acme = fake.organization("acme", "Acme Inc.")
    fake.organization("beta")
    fake.organization("gamma")
    fake.user(ADMIN_EMAIL, ROLE_SYSTEM_ADMIN)
    fake.user("ann@acme.org", ROLE_ORG_ADMIN, acme.id)
    fake.user("ben@acme.org", ROLE_ORG_USER, acme.id)
    server.start()
    yield fake
    server.stop(None)


class Cli:
    """ias-admin with a configuration of its own."""

    def __init__(self, ias: FakeIas, home: Path) -> None:
        self.config = home / "config.yaml"
        self.env: dict[str, str | None] = {
            name: None for name in os.environ if name.startswith("IAS_")
        }
        self.env |= {"IAS_GRPC": ias.address, "IAS_CONFIG": str(self.config), "COLUMNS": "200"}

    def __call__(self, *arguments: str, stdin: str = "") -> Result:
        """Runs it."""
        return CliRunner().invoke(app, list(arguments), input=stdin, env=self.env)

    def ok(self, *arguments: str, stdin: str = "") -> str:
        """What it printed on stdout; it must succeed."""
        result = self(*arguments, stdin=stdin)
        assert result.exit_code == 0, (result.stdout, result.stderr, result.exception)
        return result.stdout

    def json(self, *arguments: str) -> Any:
        """What it printed as JSON."""
        return json.loads(self.ok(*arguments, "-o", "json"))

    def csv(self, *arguments: str) -> list[str]:
        """The lines that it printed as CSV."""
        return self.ok(*arguments, "-o", "csv").splitlines()

    def process(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs it as a process of its own, without a terminal."""
        with self.started(*arguments, stdin=subprocess.DEVNULL) as process:
            stdout, stderr = process.communicate(timeout=30)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def started(self, *arguments: str, stdin: int) -> subprocess.Popen[str]:
        """Starts it; in a session of its own, or it would find the terminal of the tests."""
        return subprocess.Popen(
            [sys.executable, "-m", "ias_admin", *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(),
            start_new_session=True,
        )

    def shell(self, line: str) -> subprocess.CompletedProcess[str]:
        """Runs it in a shell, as the first word of a line."""
        return subprocess.run(
            ["sh", "-c", f"{sys.executable} -m ias_admin {line}"],
            check=False,
            capture_output=True,
            text=True,
            env=self._environment(),
            timeout=30,
        )

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in (os.environ | self.env).items() if value is not None}

    def stored(self) -> Any:
        """The configuration."""
        return yaml.safe_load(self.config.read_text())


@pytest.fixture
def cli(ias: FakeIas, tmp_path: Path) -> Cli:
    """ias-admin with nobody signed in."""
    return Cli(ias, tmp_path / "home")


@pytest.fixture
def signed_in(cli: Cli) -> Callable[[str], Cli]:
    """Signs a person in."""

    def as_(email: str) -> Cli:
        cli.ok("login", "--email", email, "--password-stdin", stdin=PASSWORD + "\n")
        return cli

    return as_


@pytest.fixture
def admin(signed_in: Callable[[str], Cli]) -> Cli:
    """ias-admin with the System Admin signed in."""
    return signed_in(ADMIN_EMAIL)


@pytest.fixture
def ann(signed_in: Callable[[str], Cli]) -> Cli:
    """ias-admin with the Org Admin of acme signed in."""
    return signed_in("ann@acme.org")


@pytest.fixture
def ben(signed_in: Callable[[str], Cli]) -> Cli:
    """ias-admin with an Org User of acme signed in."""
    return signed_in("ben@acme.org")
