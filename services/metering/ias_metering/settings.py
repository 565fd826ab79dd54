"""What metering reads from its environment, once, at the start."""

from datetime import timedelta

from pydantic import Field, SecretStr

from ias_metering.domain.leases import LeaseTimes
from ias_runtime.settings import ChassisSettings


class Settings(ChassisSettings):
    """Each is the variable IAS_<NAME>."""

    amqp_url: SecretStr
    """RabbitMQ, as amqp://user:password@host:port/vhost."""
    metering_listen: str = "127.0.0.1:8092"
    metering_metrics_listen: str = "127.0.0.1:8102"
    metering_lease_ttl_s: float = Field(default=30.0, gt=0, le=3600)
    """How long a lease lives unless it is renewed."""
    metering_lease_grace_s: float = Field(default=60.0, ge=0, le=3600)
    """How long after its expiry a lease still holds what it has outstanding."""
    metering_event_grace_s: float = Field(default=600.0, ge=0, le=86400)
    """How long a released lease holds what was reported as used, for its events to arrive."""
    metering_sweep_every_s: float = Field(default=5.0, gt=0, le=600)
    """How often leases are swept."""

    def lease_times(self) -> LeaseTimes:
        """The settings of leases, as the rules take them."""
        return LeaseTimes(
            ttl=timedelta(seconds=self.metering_lease_ttl_s),
            grace=timedelta(seconds=self.metering_lease_grace_s),
            event_grace=timedelta(seconds=self.metering_event_grace_s),
        )
