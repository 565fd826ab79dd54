"""Puts metering together; the only place that chooses classes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from ias.metering.v1 import budgets_pb2, leases_pb2, usage_pb2

from ias_metering.adapters.postgres.budgets import PostgresBudgets
from ias_metering.adapters.postgres.events import PostgresEvents
from ias_metering.adapters.postgres.leases import PostgresLeases
from ias_metering.adapters.postgres.upkeep import every, prepare
from ias_metering.adapters.postgres.usage import PostgresUsage
from ias_metering.adapters.rabbitmq.events import UsageConsumer
from ias_metering.grpc_api.budgets import BudgetServicer
from ias_metering.grpc_api.leases import QuotaServicer
from ias_metering.grpc_api.usage import UsageServicer
from ias_metering.settings import Settings
from ias_runtime import postgres
from ias_runtime.rpc import Binding
from ias_runtime.server import Service

_PARTITIONS_EVERY_S = 3600.0


def _now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def opening(settings: Settings) -> AsyncIterator[Service]:
    """The service, consuming from the queue (or trying to) while it is open."""
    database_url = settings.database_url.get_secret_value()
    # Settling has connections of its own: a flood of events must not keep leases waiting, and
    # the other way round.
    async with (
        postgres.pool(database_url, application="ias-metering", max_size=16) as pool,
        postgres.pool(database_url, application="ias-metering-events", max_size=6) as event_pool,
    ):
        leases = PostgresLeases(pool, settings.lease_times())
        events = PostgresEvents(event_pool)
        consumer = UsageConsumer(settings.amqp_url.get_secret_value(), events, _now)
        tasks = [
            asyncio.create_task(consumer.run(), name="usage consumer"),
            asyncio.create_task(
                every(settings.metering_sweep_every_s, "sweep leases", lambda: leases.sweep(_now()))
            ),
            asyncio.create_task(
                every(_PARTITIONS_EVERY_S, "make partitions", lambda: prepare(event_pool, _now()))
            ),
        ]
        try:
            yield Service(
                name="metering",
                listen=settings.metering_listen,
                metrics_listen=settings.metering_metrics_listen,
                bindings=(
                    Binding(
                        leases_pb2.DESCRIPTOR.services_by_name["QuotaService"],
                        QuotaServicer(leases, _now),
                    ),
                    Binding(
                        budgets_pb2.DESCRIPTOR.services_by_name["BudgetService"],
                        BudgetServicer(PostgresBudgets(pool), _now),
                    ),
                    Binding(
                        usage_pb2.DESCRIPTOR.services_by_name["UsageService"],
                        UsageServicer(PostgresUsage(pool), _now),
                    ),
                ),
            )
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)
