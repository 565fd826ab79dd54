"""What identity reads from its environment, once, at the start."""

from pydantic import Field, SecretStr

from ias_runtime.settings import ChassisSettings


class IdentitySettings(ChassisSettings):
    """Settings of identity; each is the variable IAS_<NAME>."""

    redis_url: SecretStr
    """Redis, as redis://host:port/0. May be down: then keys are checked in the database."""
    identity_listen: str = "127.0.0.1:8091"
    """host:port for gRPC."""
    identity_metrics_listen: str = ""
    """host:port for /metrics; empty for none."""
    caller_private_key: SecretStr
    """Ed25519 private key in PEM that signs x-ias-caller. A literal \\n counts as a line end."""
    key_pepper: SecretStr = Field(min_length=32)
    """Keys the hashes of API keys and the signatures of access tokens; losing it voids both."""

    def private_key(self) -> str:
        """The PEM of `caller_private_key`."""
        return self.caller_private_key.get_secret_value().replace("\\n", "\n").strip() + "\n"
