"""What inference reads from its environment, once, at the start."""

from typing import Literal

from pydantic import Field, SecretStr

from ias_runtime.settings import ChassisSettings


class InferenceSettings(ChassisSettings):
    """Settings of inference; each is the variable IAS_<NAME>."""

    inference_listen: str
    """host:port, or unix:path."""
    inference_metrics_listen: str = ""
    """host:port; empty serves no metrics."""
    metering_target: str
    """host:port of metering."""
    amqp_url: SecretStr
    """RabbitMQ, as amqp://user:password@host:port/vhost."""
    redis_url: SecretStr = SecretStr("")
    """Redis, where the routes of models are published; empty publishes none, and then identity
    knows no alias and no model with adapters of its own."""
    inference_engine: Literal["light", "mock"] = "light"
    """What serves the models of the kind `vllm` here: `light` leaves them to their adapters, `mock`
    is an adapter without a model, for tests."""
    inference_first_byte_s: float = Field(default=30.0, gt=0, le=3600)
    """Seconds for which a backend may be silent before another one is tried, where there is one."""
    inference_spool: str
    """Path of the SQLite file; each process needs one of its own, kept across restarts."""
    inference_spool_max_bytes: int = Field(default=1 << 30, ge=1 << 20)
    """When the spool is larger, nothing more is served."""
    inference_spool_max_events: int = Field(default=1_000_000, ge=1000)
    """When more events wait, nothing more is served."""
