"""The only place that chooses classes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from google.protobuf.descriptor import ServiceDescriptor
from ias.identity.v1 import (
    api_keys_pb2,
    audit_pb2,
    organizations_pb2,
    sessions_pb2,
    users_pb2,
)
from ias.inference.v1 import (
    catalog_pb2,
    chat_pb2,
    completions_pb2,
    embeddings_pb2,
    models_pb2,
    openai_pb2,
)
from ias.metering.v1 import budgets_pb2, usage_pb2

from ias_identity.adapters.changes import ChangePoller
from ias_identity.adapters.credentials import TTL_S, CachedCredentials
from ias_identity.adapters.passwords import Argon2Passwords
from ias_identity.adapters.postgres.access import PostgresCredentials, PostgresKeyUses
from ias_identity.adapters.postgres.api_keys import PostgresApiKeys
from ias_identity.adapters.postgres.audit import PostgresAuditLog
from ias_identity.adapters.postgres.changes import PostgresChanges
from ias_identity.adapters.postgres.organizations import PostgresOrganizations
from ias_identity.adapters.postgres.sessions import PostgresSessions
from ias_identity.adapters.postgres.users import PostgresUsers
from ias_identity.adapters.redis.attempts import RedisLoginAttempts
from ias_identity.adapters.redis.breaker import Breaker, connect
from ias_identity.adapters.redis.credentials import RedisCredentials
from ias_identity.adapters.redis.model_routes import RedisModelRoutes
from ias_identity.adapters.redis.revocations import RedisAnnouncer, RedisSubscription
from ias_identity.adapters.uses import GatheredKeyUses
from ias_identity.domain.access import Access
from ias_identity.domain.api_keys import ApiKeys, KeyHasher
from ias_identity.domain.audit import Audit
from ias_identity.domain.model_routes import ModelRoutes
from ias_identity.domain.organizations import Organizations
from ias_identity.domain.sessions import Sessions
from ias_identity.domain.tokens import AccessTokens
from ias_identity.domain.users import Users
from ias_identity.grpc_api.api_keys import ApiKeyServicer
from ias_identity.grpc_api.audit import AuditServicer
from ias_identity.grpc_api.authorization import Authorization
from ias_identity.grpc_api.organizations import OrganizationServicer
from ias_identity.grpc_api.routes import Routes
from ias_identity.grpc_api.sessions import SessionServicer
from ias_identity.grpc_api.users import UserServicer
from ias_identity.settings import IdentitySettings
from ias_runtime import audit, migrations, postgres
from ias_runtime.caller_token import CallerSigner
from ias_runtime.rpc import Binding
from ias_runtime.server import Service

log = structlog.get_logger()


def _service(module: object, name: str) -> ServiceDescriptor:
    found: ServiceDescriptor = module.DESCRIPTOR.services_by_name[name]  # type: ignore[attr-defined]
    return found


EDGE_SERVICES = (
    _service(organizations_pb2, "OrganizationService"),
    _service(users_pb2, "UserService"),
    _service(sessions_pb2, "SessionService"),
    _service(api_keys_pb2, "ApiKeyService"),
    _service(audit_pb2, "AuditService"),
    _service(budgets_pb2, "BudgetService"),
    _service(usage_pb2, "UsageService"),
    _service(openai_pb2, "OpenAIService"),
    _service(chat_pb2, "ChatService"),
    _service(completions_pb2, "CompletionService"),
    _service(embeddings_pb2, "EmbeddingService"),
    _service(catalog_pb2, "CatalogService"),
    _service(models_pb2, "ModelService"),
)
"""All that Envoy serves: Check knows their rules, and reflection, which Envoy sends here, them."""


@dataclass(frozen=True, slots=True)
class _Servers:
    """The servers that everything is built on."""

    pool: postgres.Pool
    passwords: Argon2Passwords


@asynccontextmanager
async def opening(
    settings: IdentitySettings, passwords: Argon2Passwords | None = None
) -> AsyncIterator[Service]:
    """The service, ready to serve; its background work ends with the context."""
    async with _servers(settings, passwords) as servers:
        redis_url = settings.redis_url.get_secret_value()
        pepper = settings.key_pepper.get_secret_value()
        client, breaker = connect(redis_url), Breaker()

        credentials = CachedCredentials(
            PostgresCredentials(servers.pool),
            RedisCredentials(client, breaker, TTL_S),
            hearing=lambda: subscription.hearing,
        )
        subscription = RedisSubscription(redis_url, credentials.forget, credentials.forget_all)
        poller = ChangePoller(
            PostgresChanges(servers.pool),
            credentials.forget,
            credentials.forget_all,
            credentials.tidy,
        )
        uses = GatheredKeyUses(PostgresKeyUses(servers.pool))
        announcer = RedisAnnouncer(client, breaker, credentials.forget)
        models = ModelRoutes()
        model_routes = RedisModelRoutes(client, breaker, models)
        hasher, tokens = KeyHasher(pepper), AccessTokens(pepper)

        organizations = Organizations(PostgresOrganizations(servers.pool))
        users = Users(PostgresUsers(servers.pool), organizations, servers.passwords)
        sessions = Sessions(
            PostgresSessions(servers.pool),
            servers.passwords,
            RedisLoginAttempts(client, breaker),
            tokens,
            announcer,
        )
        api_keys = ApiKeys(PostgresApiKeys(servers.pool), organizations, hasher, announcer)
        authorization = Authorization(
            Access(credentials, hasher, tokens, uses, models),
            CallerSigner(settings.private_key()),
            Routes(EDGE_SERVICES),
            models,
        )
        servicers = (
            OrganizationServicer(organizations),
            UserServicer(users),
            SessionServicer(sessions, users),
            ApiKeyServicer(api_keys),
            AuditServicer(Audit(PostgresAuditLog(servers.pool), organizations)),
        )
        with _running(subscription.run, poller.run, uses.run, model_routes.run):
            try:
                yield Service(
                    name="identity",
                    listen=settings.identity_listen,
                    metrics_listen=settings.identity_metrics_listen,
                    bindings=[
                        Binding(service, servicer)
                        for service, servicer in zip(EDGE_SERVICES, servicers, strict=False)
                    ],
                    extra_handlers=[authorization.handler()],
                    reflected=[service.full_name for service in EDGE_SERVICES],
                )
            finally:
                await uses.flush()
                await client.aclose()


async def create_super_admin(settings: IdentitySettings, email: str, password: str) -> str:
    """Creates a System Admin and gives the id; empty when there is one of that address."""
    async with _servers(settings, None) as servers:
        organizations = Organizations(PostgresOrganizations(servers.pool))
        users = Users(PostgresUsers(servers.pool), organizations, servers.passwords)
        if await users.super_admin_exists(email):
            return ""
        return (await users.create_super_admin(email, password)).id


def migrate(settings: IdentitySettings) -> None:
    """Brings the schemas `audit` and `identity` up to date."""
    url = settings.database_url.get_secret_value()
    audit.migrate(url)
    migrations.migrate(url, "identity", Path(__file__).parent / "migrations")


@asynccontextmanager
async def _servers(
    settings: IdentitySettings, passwords: Argon2Passwords | None
) -> AsyncIterator[_Servers]:
    url = settings.database_url.get_secret_value()
    async with postgres.pool(url, application="ias-identity") as pool:
        passwords = passwords or Argon2Passwords()
        try:
            yield _Servers(pool, passwords)
        finally:
            passwords.close()


@contextmanager
def _running(*work: Callable[[], Coroutine[Any, Any, None]]) -> Iterator[None]:
    tasks = [asyncio.create_task(_kept_up(each)) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def _kept_up(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Begins work anew after whatever it didn't foresee: revocations must go on being heard."""
    while True:
        try:
            await work()
        except Exception as error:
            log.error("background work failed", work=work.__qualname__, exc_info=error)
        await asyncio.sleep(1)
