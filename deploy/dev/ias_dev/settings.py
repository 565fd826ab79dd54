"""Where a development stack lives, and on which ports."""

import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_PORT_BASE = 8080
HOST = "127.0.0.1"
"""Everything of the stack listens here alone."""


class DevError(Exception):
    """Something that the person at the terminal can put right; shown without a traceback."""


@dataclass(frozen=True, slots=True)
class Ports:
    """All ports, at fixed distances from one base, so that a second stack needs one number."""

    base: int = DEFAULT_PORT_BASE

    def __post_init__(self) -> None:
        if not 1024 <= self.base <= 65000:
            raise DevError("IAS_DEV_PORT_BASE must lie between 1024 and 65000.")

    @property
    def envoy(self) -> int:
        """The front door."""
        return self.base

    @property
    def envoy_admin(self) -> int:
        """Envoy's own statistics and configuration."""
        return self.base + 1

    def service(self, name: str) -> int:
        """gRPC of one of SERVICES."""
        return self.base + 11 + SERVICES.index(name)

    def metrics(self, name: str) -> int:
        """Prometheus metrics of one of SERVICES."""
        return self.base + 21 + SERVICES.index(name)

    @property
    def vllm(self) -> int:
        """gRPC of the adapter process of a real model."""
        return self.base + 14

    @property
    def vllm_metrics(self) -> int:
        """Its Prometheus metrics, vLLM's own among them."""
        return self.base + 24

    @property
    def postgres(self) -> int:
        """PostgreSQL."""
        return self.base + 32

    @property
    def redis(self) -> int:
        """Redis."""
        return self.base + 33

    @property
    def rabbitmq(self) -> int:
        """AMQP."""
        return self.base + 34

    @property
    def rabbitmq_dist(self) -> int:
        """Erlang's own protocol, of the RabbitMQ node."""
        return self.base + 35

    @property
    def epmd(self) -> int:
        """Erlang's port mapper."""
        return self.base + 36


SERVICES = ("identity", "metering", "inference")
"""In the order in which they start: each needs those before it, if any."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One development stack."""

    root: Path
    """The checkout."""
    folder: Path
    """Data, logs, sockets and secrets of the stack."""
    ports: Ports = Ports()
    external_database_url: str = ""
    """Used instead of a private PostgreSQL when not empty; the same for the next two."""
    external_redis_url: str = ""
    external_amqp_url: str = ""

    @property
    def dotenv(self) -> Path:
        """What scripts may read about a running stack."""
        return self.folder / "dev.env"

    @property
    def logs(self) -> Path:
        """One file per program."""
        return self.folder / "logs"

    @property
    def url(self) -> str:
        """Where HTTP clients find IAS."""
        return f"http://{HOST}:{self.ports.envoy}"

    @property
    def grpc_target(self) -> str:
        """Where gRPC clients find IAS."""
        return f"{HOST}:{self.ports.envoy}"


def checkout() -> Path:
    """The root of the checkout that this package was installed from."""
    return Path(__file__).resolve().parents[3]


def from_environment() -> Settings:
    """The stack that the environment asks for. Raises DevError for a port base out of range."""
    root = checkout()
    folder = (root / os.environ.get("IAS_DEV_DIR", ".ias")).resolve()
    base = os.environ.get("IAS_DEV_PORT_BASE", "") or str(DEFAULT_PORT_BASE)
    if not base.isdigit():
        raise DevError(f"IAS_DEV_PORT_BASE must be a number, not {base!r}.")
    return Settings(
        root=root,
        folder=folder,
        ports=Ports(int(base)),
        external_database_url=os.environ.get("IAS_DATABASE_URL", ""),
        external_redis_url=os.environ.get("IAS_REDIS_URL", ""),
        external_amqp_url=os.environ.get("IAS_AMQP_URL", ""),
    )
