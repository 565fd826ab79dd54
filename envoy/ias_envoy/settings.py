"""What the command reads from its environment and options, once."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from ias_envoy.model import MAX_BODY_BYTES, Cluster, Edge


class Settings(BaseSettings):
    """Each is the variable IAS_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="IAS_", frozen=True, extra="ignore")

    envoy_listen: str = "127.0.0.1:8080"
    """host:port for clients."""
    envoy_admin: str = "127.0.0.1:8081"
    """host:port of Envoy's admin interface."""
    envoy_descriptors: Path = Path("gen/descriptors.binpb")
    """The descriptor set of the contracts."""
    envoy_tls_certificate: Path | None = None
    """TLS certificate chain for clients, in PEM; plain text without."""
    envoy_tls_key: Path | None = None
    """Its private key, in PEM."""
    envoy_cors_origins: str = ""
    """Origins whose pages may call, separated by commas."""
    envoy_trusted_hops: int = Field(default=0, ge=0, le=10)
    """Proxies in front of Envoy whose x-forwarded-for is believed."""
    envoy_access_log: str = "/dev/stdout"
    """File of the access log."""
    envoy_max_body_bytes: int = Field(default=MAX_BODY_BYTES, ge=1024, le=MAX_BODY_BYTES)
    """Larger request bodies are answered with 413."""
    envoy_max_heap_bytes: int = Field(default=2 * 1024**3, ge=64 * 1024**2)
    """Envoy sheds load near this."""
    identity_target: str = "127.0.0.1:8091"
    """host:port or unix:path of identity; several, separated by commas, for several processes."""
    metering_target: str = "127.0.0.1:8092"
    """The same for metering."""
    inference_target: str = "127.0.0.1:8093"
    """The same for inference."""
    redis_url: SecretStr = SecretStr("")
    """Redis, where inference publishes which models have adapters of their own; for `watch`."""

    def edge(self, directory: Path) -> Edge:
        """The front door, its files in a directory. Raises ValueError for malformed addresses."""
        return Edge(
            listen=self.envoy_listen,
            admin=self.envoy_admin,
            descriptors=self.envoy_descriptors.resolve(),
            config_directory=directory.resolve(),
            certificate=self.envoy_tls_certificate,
            key=self.envoy_tls_key,
            cors_origins=_split(self.envoy_cors_origins),
            trusted_hops=self.envoy_trusted_hops,
            access_log=self.envoy_access_log,
            max_body_bytes=self.envoy_max_body_bytes,
            max_heap_bytes=self.envoy_max_heap_bytes,
        )

    def clusters(self) -> list[Cluster]:
        """One for each service. Raises ValueError for malformed targets."""
        return [
            Cluster("identity", _split(self.identity_target)),
            Cluster("metering", _split(self.metering_target)),
            Cluster("inference", _split(self.inference_target)),
        ]


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
