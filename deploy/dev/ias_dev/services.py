"""identity, metering and inference: their environment, migrations and health."""

import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ias_dev import commands, programs, sockets, urls, waiting
from ias_dev.keys import Keys
from ias_dev.programs import Program
from ias_dev.settings import HOST, SERVICES, Settings

BOOTSTRAP_EMAIL = "admin@ias.local"


def program(settings: Settings, keys: Keys, name: str) -> Program:
    """One of SERVICES."""
    services = settings.root / "services"
    return Program(
        name=name,
        title=name,
        folder=programs.folder_of(settings, name),
        command=[sys.executable, "-m", f"ias_{name}", "serve"],
        ports=[settings.ports.service(name), settings.ports.metrics(name)],
        environment=environment(settings, keys, name),
        digest_of=[
            services / name,
            services / "runtime",
            settings.root / "gen" / "descriptors.binpb",
            settings.root / "requirements.lock",
        ],
    )


def environment(settings: Settings, keys: Keys, name: str) -> dict[str, str]:
    """What the service reads; only identity gets what only identity may know."""
    prefix = f"IAS_{name.upper()}"
    values = {
        "IAS_DATABASE_URL": urls.database(settings, keys),
        "IAS_REDIS_URL": urls.redis(settings, keys),
        "IAS_AMQP_URL": urls.amqp(settings, keys),
        "IAS_CALLER_PUBLIC_KEYS": keys.caller_public_key,
        "IAS_MESH_SECRET": keys.mesh_secret,
        "IAS_LOG_LEVEL": os.environ.get("IAS_LOG_LEVEL", "info"),
        "IAS_DRAIN_S": "10",
        # The port is for people; Envoy takes the socket, which only this user can reach.
        f"{prefix}_LISTEN": f"{HOST}:{settings.ports.service(name)},{socket(settings, name)}",
        f"{prefix}_METRICS_LISTEN": f"{HOST}:{settings.ports.metrics(name)}",
        "PYTHONUNBUFFERED": "1",
    }
    if name == "identity":
        values["IAS_CALLER_PRIVATE_KEY"] = keys.caller_private_key
        values["IAS_KEY_PEPPER"] = keys.key_pepper
    if name == "inference":
        values["IAS_METERING_TARGET"] = f"{HOST}:{settings.ports.service('metering')}"
        values["IAS_INFERENCE_SPOOL"] = str(programs.folder_of(settings, name) / "spool.db")
    return values


def socket(settings: Settings, name: str) -> str:
    """Where Envoy reaches the service."""
    return f"unix:{sockets.path(settings.folder, name)}"


def migrate(settings: Settings, keys: Keys, names: Iterable[str] = SERVICES) -> None:
    """Brings the services' schemas up to date, all at once. Raises DevError with their output."""

    def one(name: str) -> None:
        commands.run(
            [sys.executable, "-m", f"ias_{name}", "migrate"],
            environment=environment(settings, keys, name),
        )

    with ThreadPoolExecutor() as threads:
        list(threads.map(one, names))


def bootstrap(settings: Settings, keys: Keys) -> None:
    """Creates the System Admin. Does nothing when one of that address exists."""
    create = ["bootstrap", "create-super-admin", "--email", BOOTSTRAP_EMAIL, "--password-stdin"]
    commands.run(
        [sys.executable, "-m", "ias_identity", *create],
        environment=environment(settings, keys, "identity"),
        text=keys.admin_password + "\n",
    )


def wait(settings: Settings, name: str) -> None:
    """Returns once the service says that it serves."""
    target = f"{HOST}:{settings.ports.service(name)}"

    def ask() -> None:
        with grpc.insecure_channel(target) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(), timeout=2
            )
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise RuntimeError("not serving")

    waiting.until(ask, name, log=settings.logs / f"{name}.log")
