"""What every service reads from its environment, once, at the start."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ChassisSettings(BaseSettings):
    """Settings that all services share; each is the variable IAS_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="IAS_", frozen=True, extra="ignore")

    database_url: SecretStr
    """PostgreSQL, as postgresql://user:password@host:port/database."""
    caller_public_keys: str
    """Ed25519 public keys in PEM, one after the other, that verify x-ias-caller."""
    mesh_secret: SecretStr = Field(min_length=32)
    """Shared by the services alone; signs their calls to each other."""
    log_level: str = "info"
    drain_s: float = Field(default=30.0, ge=0, le=600)
    """Seconds that running calls get to end after SIGTERM."""
    tls_certificate: str = ""
    """Path of the certificate for connections between services; empty for plain text."""
    tls_key: str = ""
    """Path of its private key."""
    tls_ca: str = ""
    """Path of the certificate authority that peers must be signed by."""

    def public_keys(self) -> list[str]:
        """The PEM blocks of `caller_public_keys`. A literal \\n counts as a line end."""
        pem = self.caller_public_keys.replace("\\n", "\n")
        end = "-----END PUBLIC KEY-----"
        return [part.strip() + "\n" + end + "\n" for part in pem.split(end) if part.strip()]
