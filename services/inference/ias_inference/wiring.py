"""Chooses the classes and puts them together."""

import os
import socket
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

from google.protobuf.descriptor import FileDescriptor
from ias.inference.v1 import (
    catalog_pb2,
    chat_pb2,
    completions_pb2,
    embeddings_pb2,
    engine_pb2,
    models_pb2,
    openai_pb2,
)

from ias_inference.adapters.engines.balanced import BalancedEngine
from ias_inference.adapters.engines.health import HEALTH_TIMEOUT_S
from ias_inference.adapters.engines.mock import MockEngine
from ias_inference.adapters.engines.mock_adapter import MockAdapter
from ias_inference.adapters.engines.openai import OpenAIEngine
from ias_inference.adapters.engines.probes import Probes
from ias_inference.adapters.engines.remote import RemoteAdapters
from ias_inference.adapters.leases import MeteringLeases
from ias_inference.adapters.postgres.model_changes import ModelChanges
from ias_inference.adapters.postgres.models import PostgresModels
from ias_inference.adapters.publisher import Publisher
from ias_inference.adapters.routing import RoutingPublisher
from ias_inference.adapters.spool import Spool
from ias_inference.domain.engines import Adapter, Engine
from ias_inference.domain.model_management import Models, ModelStore, Prober
from ias_inference.domain.models import EngineKind, Registry
from ias_inference.domain.ports import Leases
from ias_inference.domain.serving import Serving
from ias_inference.grpc_api.catalog import CatalogApi
from ias_inference.grpc_api.chat import ChatApi
from ias_inference.grpc_api.completions import CompletionApi
from ias_inference.grpc_api.embeddings import EmbeddingApi
from ias_inference.grpc_api.engine import EngineApi
from ias_inference.grpc_api.models import ModelsApi
from ias_inference.grpc_api.openai import OpenAI
from ias_inference.settings import InferenceSettings
from ias_runtime import audit, migrations, postgres, server
from ias_runtime.caller_token import MeshSigner
from ias_runtime.rpc import Binding

_SETTLE_S = 5.0
"""For requests that the drain cancelled, to get their events into the spool."""


class LocalEngine(Adapter, Protocol):
    """An engine that runs in this process, and lives and dies with it."""

    async def start(self) -> None:
        """Loads the model; the service is ready afterwards."""
        ...

    async def died(self) -> None:
        """Returns when the engine has died, and with it the process's purpose."""
        ...

    async def stop(self) -> None:
        """Ends it."""
        ...


def vllm_engine(settings: InferenceSettings, flags: Sequence[str]) -> LocalEngine:
    """vLLM with its own flags, not started yet. Ends the program for wrong flags."""
    from ias_inference.adapters.engines.vllm.engine import VllmEngine

    return VllmEngine(flags, settings.mesh_secret.get_secret_value())


@asynccontextmanager
async def opening(
    settings: InferenceSettings, local: LocalEngine | None = None
) -> AsyncIterator[server.Service]:
    """The service, with everything open that it needs; closed in the reverse order.

    `local` serves the models of the kind `vllm` that this process was started for.
    """
    database_url = settings.database_url.get_secret_value()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        spool = await enter(
            Spool(
                settings.inference_spool,
                settings.inference_spool_max_bytes,
                settings.inference_spool_max_events,
            )
        )
        await enter(Publisher(spool, settings.amqp_url.get_secret_value()))
        channel = await enter(server.channel(settings, settings.metering_target))
        secret = settings.mesh_secret.get_secret_value()
        to_metering = MeshSigner(secret, "inference", audience="metering")
        to_adapters = MeshSigner(secret, "inference", audience="inference")
        leases = await enter(MeteringLeases(channel, to_metering, _holder()))
        pool = await enter(postgres.pool(database_url, application="ias-inference"))
        registry = Registry()
        await enter(ModelChanges(database_url, registry))
        if redis_url := settings.redis_url.get_secret_value():
            await enter(RoutingPublisher(redis_url, registry))
        on_mock = settings.inference_engine == "mock"
        adapter: Adapter = local or (MockAdapter() if on_mock else RemoteAdapters())
        servers = await enter(OpenAIEngine())
        openai: Engine = servers
        if isinstance(adapter, RemoteAdapters):
            # An adapter gets requests for model servers only by mistake; it must not ask them all
            # how they are every two seconds besides.
            openai = await enter(
                BalancedEngine(
                    servers,
                    EngineKind.OPENAI,
                    registry,
                    await enter(Probes(to_adapters, HEALTH_TIMEOUT_S)),
                    settings.inference_first_byte_s,
                )
            )
        engines: dict[EngineKind, Engine] = {
            EngineKind.MOCK: MockEngine(),
            EngineKind.OPENAI: openai,
            EngineKind.VLLM: adapter,
        }
        if local is not None:
            stack.push_async_callback(local.stop)
        probes = await enter(Probes(to_adapters))
        serving = Serving(registry, engines, leases, spool)
        stack.push_async_callback(serving.settled, _SETTLE_S)
        yield server.Service(
            name="inference",
            listen=settings.inference_listen,
            metrics_listen=settings.inference_metrics_listen,
            bindings=bindings(
                serving,
                registry,
                leases,
                engines,
                PostgresModels(pool),
                prober=probes,
                adapter=adapter,
            ),
            start=local.start if local else None,
            died=local.died if local else None,
        )


def bindings(
    serving: Serving,
    registry: Registry,
    leases: Leases,
    engines: Mapping[EngineKind, Engine],
    store: ModelStore,
    *,
    prober: Prober,
    adapter: Adapter,
) -> list[Binding]:
    """Which servicer serves which contract."""
    served: list[tuple[FileDescriptor, str, object]] = [
        (openai_pb2.DESCRIPTOR, "OpenAIService", OpenAI(serving, registry, leases)),
        (chat_pb2.DESCRIPTOR, "ChatService", ChatApi(serving)),
        (completions_pb2.DESCRIPTOR, "CompletionService", CompletionApi(serving)),
        (embeddings_pb2.DESCRIPTOR, "EmbeddingService", EmbeddingApi(serving)),
        (catalog_pb2.DESCRIPTOR, "CatalogService", CatalogApi(registry)),
        (models_pb2.DESCRIPTOR, "ModelService", ModelsApi(Models(store, engines, prober))),
        (engine_pb2.DESCRIPTOR, "EngineService", EngineApi(adapter)),
    ]
    return [Binding(file.services_by_name[name], servicer) for file, name, servicer in served]


def migrate_database(database_url: str) -> None:
    """Brings the schemas `audit` and `inference` up to date."""
    audit.migrate(database_url)
    migrations.migrate(database_url, "inference", Path(__file__).parent / "migrations")


def _holder() -> str:
    """Names this start of this process to metering."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
