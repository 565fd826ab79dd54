"""Envoy: the front door, with the configuration that ias_envoy renders."""

import os
import sys
import urllib.request
from pathlib import Path

from ias_dev import commands, programs, services, urls, waiting
from ias_dev.keys import Keys
from ias_dev.programs import Program
from ias_dev.settings import HOST, Settings

NAME = "envoy"
WATCH = "envoy-watch"
ACCESS_LOG = "access.log"
_LONGEST_ACCESS_LOG_BYTES = 100 * 1024 * 1024


def program(settings: Settings) -> Program:
    """The proxy, on half of the cores."""
    folder = programs.folder_of(settings, NAME)
    bootstrap = folder / "bootstrap.yaml"
    return Program(
        name=NAME,
        title="Envoy",
        folder=folder,
        command=[
            str(Path(sys.executable).parent / "envoy"),
            *("-c", str(bootstrap)),
            # Without it Envoy ends together with the thread that launched it.
            "--disable-hot-restart",
            # The services need the other half of the machine.
            *("--concurrency", str(max(1, (os.cpu_count() or 2) // 2))),
            *("--log-level", "warning"),
        ],
        ports=[settings.ports.envoy, settings.ports.envoy_admin],
        # Clusters and routes are watched while it runs; only the bootstrap needs a new start.
        digest_of=[bootstrap, _descriptors(settings)],
    )


def watch_program(settings: Settings, keys: Keys) -> Program:
    """What keeps Envoy's clusters in step with the registry of models."""
    folder = programs.folder_of(settings, NAME)
    package = settings.root / "envoy"
    return Program(
        name=WATCH,
        title="Envoy's watch over the registry",
        folder=programs.folder_of(settings, WATCH),
        command=[sys.executable, "-m", "ias_envoy", "watch", "--out", str(folder)],
        environment=_environment(settings) | {"IAS_REDIS_URL": urls.redis(settings, keys)},
        digest_of=[package, _descriptors(settings)],
    )


def prepare(settings: Settings) -> None:
    """Renders the configuration. Raises DevError with ias_envoy's message."""
    out = programs.folder_of(settings, NAME)
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    access_log = settings.logs / ACCESS_LOG
    if access_log.exists() and access_log.stat().st_size > _LONGEST_ACCESS_LOG_BYTES:
        access_log.write_bytes(b"")
    commands.run(
        [sys.executable, "-m", "ias_envoy", "render", "--out", str(out)],
        environment=_environment(settings),
    )


def wait(settings: Settings) -> None:
    """Returns once Envoy has its configuration and listens."""
    url = f"http://{HOST}:{settings.ports.envoy_admin}/ready"

    def ask() -> None:
        with urllib.request.urlopen(url, timeout=2) as answer:
            if answer.status != 200:
                raise RuntimeError("not ready")

    waiting.until(ask, "Envoy", log=settings.logs / f"{NAME}.log")


def _descriptors(settings: Settings) -> Path:
    return settings.root / "gen" / "descriptors.binpb"


def _environment(settings: Settings) -> dict[str, str]:
    ports = settings.ports
    return {
        "IAS_ENVOY_DESCRIPTORS": str(_descriptors(settings)),
        # Straight into a file: supervisor's pipe would cost more than the line itself.
        "IAS_ENVOY_ACCESS_LOG": str(settings.logs / ACCESS_LOG),
        "IAS_ENVOY_LISTEN": f"{HOST}:{ports.envoy}",
        "IAS_ENVOY_ADMIN": f"{HOST}:{ports.envoy_admin}",
        "IAS_IDENTITY_TARGET": services.socket(settings, "identity"),
        "IAS_METERING_TARGET": services.socket(settings, "metering"),
        "IAS_INFERENCE_TARGET": services.socket(settings, "inference"),
    }
