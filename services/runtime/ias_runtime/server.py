"""The aio server of a service: health, reflection, bounds, and a drain that loses nothing."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ias_runtime import metrics, tracing, tuning
from ias_runtime.caller_token import CallerVerifier
from ias_runtime.rpc import Binding, generic_handler, service_names
from ias_runtime.settings import ChassisSettings

log = structlog.get_logger()

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # grpc-core's soft limit of 8 KiB refuses a share of the requests with big headers, at random.
    ("grpc.max_metadata_size", 65536),
    ("grpc.absolute_max_metadata_size", 65536),
    # Two processes must never share a port by accident: Envoy would reach one of them only.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)
CLIENT_OPTIONS: Sequence[tuple[str, Any]] = (
    *OPTIONS,
    # gRPC's own back-off grows to two minutes: so long a service that is back would count as down.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
NOTICE_S = 0.5
"""Between "not serving" and refusing calls: the time that a balancer needs to look elsewhere."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a service's wiring hands to the chassis."""

    name: str
    listen: str
    """host:port or unix:path; several, separated by commas."""
    metrics_listen: str
    bindings: Sequence[Binding]
    extra_handlers: Sequence[grpc.GenericRpcHandler] = ()
    """Services of others' contracts, such as Envoy's ext_authz; they guard themselves."""
    reflected: Sequence[str] = field(default_factory=tuple)
    """Names beyond the bindings that reflection lists."""
    on_drain: Callable[[], None] | None = None
    """Called at once on SIGTERM, before the notice."""
    start: Callable[[], Awaitable[None]] | None = None
    """What takes long (loading a model): until it returns, health says NOT_SERVING."""
    died: Callable[[], Awaitable[None]] | None = None
    """Returns when the service can't go on. Then the process ends, to be started anew."""


class Died(SystemExit):
    """The service could not go on; whoever watches the process starts it anew."""

    def __init__(self) -> None:
        super().__init__(70)


async def serve(
    settings: ChassisSettings,
    opening: Callable[[], AbstractAsyncContextManager[Service]],
) -> None:
    """Opens the service, serves until SIGTERM or SIGINT, drains, closes."""
    tuning.prefer_throughput()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with opening() as service:
        secret = settings.mesh_secret.get_secret_value()
        verifier = CallerVerifier(settings.public_keys(), secret, service.name)
        server, servicer = build(settings, service, verifier)
        tuning.calm_collector()
        await server.start()
        metrics.serve(service.metrics_listen)
        died = await _until_told_to_stop(servicer, service, stopping)
        log.info("draining", seconds=settings.drain_s, died=died)
        if service.on_drain is not None:
            service.on_drain()
        await set_serving(servicer, service, health_pb2.HealthCheckResponse.NOT_SERVING)
        await asyncio.sleep(NOTICE_S)
        await server.stop(settings.drain_s)
    log.info("stopped")
    if died:
        raise Died


async def _until_told_to_stop(
    servicer: health.aio.HealthServicer, service: Service, stopping: asyncio.Event
) -> bool:
    """Serves until SIGTERM; whether it was the service that could not go on instead."""
    told = asyncio.ensure_future(stopping.wait())
    try:
        if service.start is not None:
            await set_serving(servicer, service, health_pb2.HealthCheckResponse.NOT_SERVING)
            log.info("starting", listen=service.listen, metrics=service.metrics_listen)
            starting = asyncio.ensure_future(service.start())
            await asyncio.wait((told, starting), return_when=asyncio.FIRST_COMPLETED)
            if told.done():
                starting.cancel()
                return False
            await starting
            tuning.calm_collector()
        await set_serving(servicer, service, health_pb2.HealthCheckResponse.SERVING)
        log.info("serving", listen=service.listen, metrics=service.metrics_listen)
        if service.died is None:
            await told
            return False
        died = asyncio.ensure_future(service.died())
        await asyncio.wait((told, died), return_when=asyncio.FIRST_COMPLETED)
        died.cancel()
        return not told.done()
    finally:
        told.cancel()


def build(
    settings: ChassisSettings, service: Service, verifier: CallerVerifier
) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    """The server, bound but not started. Raises RuntimeError when the port is taken."""
    server = grpc.aio.server(
        options=OPTIONS, interceptors=tuple(tracing.server_interceptors(service.name))
    )
    # gRPC asks one handler after another for each call: first those that are asked most.
    handlers = [generic_handler(binding, verifier) for binding in service.bindings]
    server.add_generic_rpc_handlers((*service.extra_handlers, *handlers))
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = dict.fromkeys(
        [
            *service_names(service.bindings),
            *service.reflected,
            health.SERVICE_NAME,
            reflection.SERVICE_NAME,
        ]
    )
    reflection.enable_server_reflection(tuple(names), server)
    credentials = _credentials(settings)
    for address in service.listen.split(","):
        if credentials is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, credentials)
    return server, servicer


async def set_serving(
    servicer: health.aio.HealthServicer,
    service: Service,
    status: int,
) -> None:
    """Tells health checks, for the whole and for each service by name."""
    for name in ("", *service_names(service.bindings)):
        await servicer.set(name, status)


def channel(settings: ChassisSettings, target: str) -> grpc.aio.Channel:
    """A channel to another service, with TLS when certificates are configured."""
    interceptors = list(tracing.client_interceptors())
    if not settings.tls_ca:
        return grpc.aio.insecure_channel(target, options=CLIENT_OPTIONS, interceptors=interceptors)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=Path(settings.tls_ca).read_bytes(),
        private_key=Path(settings.tls_key).read_bytes() if settings.tls_key else None,
        certificate_chain=(
            Path(settings.tls_certificate).read_bytes() if settings.tls_certificate else None
        ),
    )
    return grpc.aio.secure_channel(
        target, credentials, options=CLIENT_OPTIONS, interceptors=interceptors
    )


def _credentials(settings: ChassisSettings) -> grpc.ServerCredentials | None:
    if not settings.tls_certificate:
        return None
    return grpc.ssl_server_credentials(
        [(Path(settings.tls_key).read_bytes(), Path(settings.tls_certificate).read_bytes())],
        root_certificates=Path(settings.tls_ca).read_bytes() if settings.tls_ca else None,
        require_client_auth=bool(settings.tls_ca),
    )
