"""Identity as a whole, for tests: served over a real channel, with what its clients need."""

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import grpc
import pytest
from argon2 import PasswordHasher
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from google.rpc import error_details_pb2, status_pb2
from ias.access.v1 import access_pb2
from ias.identity.v1 import (
    api_keys_pb2,
    api_keys_pb2_grpc,
    audit_pb2_grpc,
    organizations_pb2,
    organizations_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
    users_pb2,
    users_pb2_grpc,
)

from ias_identity import wiring
from ias_identity.adapters.passwords import Argon2Passwords
from ias_identity.settings import IdentitySettings
from ias_runtime import server
from ias_runtime.caller import Caller, CallerKind, Role
from ias_runtime.caller_token import HEADER, CallerSigner, CallerVerifier

PASSWORD = "correct horse battery staple"
ADMIN_EMAIL = "root@platform.test"
Metadata = tuple[tuple[str, str], ...]


def database(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@asynccontextmanager
async def fresh_database() -> AsyncIterator[str]:
    """A database of one's own, gone afterwards."""
    url = os.environ["IAS_TEST_DATABASE_URL"]
    name = f"identity_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(url)
    await connection.execute(f"create database {name}")
    try:
        yield database(url, name)
    finally:
        await connection.execute(f"drop database {name} with (force)")
        await connection.close()


def quick_passwords() -> Argon2Passwords:
    """argon2id as in production, but cheap."""
    return Argon2Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


def make_settings(database_url: str, redis_url: str) -> IdentitySettings:
    """Settings with fresh keys."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return IdentitySettings(
        database_url=database_url,
        redis_url=redis_url,
        caller_public_keys=public.decode(),
        caller_private_key=private.decode().replace("\n", "\\n"),
        mesh_secret="m" * 40,
        key_pepper="pepper-" + uuid.uuid4().hex,
    )


@dataclass
class Identity:
    """A running identity, and what its clients need."""

    settings: IdentitySettings
    channel: grpc.aio.Channel
    signer: CallerSigner
    verifier: CallerVerifier
    pool: asyncpg.Pool
    admin_id: str = ""

    def __post_init__(self) -> None:
        self.organizations = organizations_pb2_grpc.OrganizationServiceStub(self.channel)
        self.users = users_pb2_grpc.UserServiceStub(self.channel)
        self.sessions = sessions_pb2_grpc.SessionServiceStub(self.channel)
        self.api_keys = api_keys_pb2_grpc.ApiKeyServiceStub(self.channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(self.channel)

    def sign(self, caller: Caller) -> Metadata:
        """Metadata of a call by this caller, as Envoy would send it."""
        return ((HEADER, self.signer.sign(caller)), ("x-request-id", f"req-{uuid.uuid4()}"))

    @property
    def anonymous(self) -> Metadata:
        """Nobody in particular, from an address of their own."""
        return self.sign(
            Caller(kind=CallerKind.ANONYMOUS, address=f"10.0.{os.urandom(1)[0]}.{os.urandom(1)[0]}")
        )

    @property
    def admin(self) -> Metadata:
        """The System Admin's session."""
        return self.session(Role.SYSTEM_ADMIN, "", self.admin_id)

    def session(self, role: Role, organization_id: str, user_id: str) -> Metadata:
        """A person's session."""
        return self.sign(
            Caller(
                kind=CallerKind.SESSION,
                role=role,
                organization_id=organization_id,
                user_id=user_id,
                session_id=str(uuid.uuid4()),
                address="192.0.2.1",
            )
        )

    async def new_tenant(self, name: str = "") -> "Tenant":
        """An organisation with an Org Admin and an Org User, both active."""
        name = name or f"t-{uuid.uuid4().hex[:8]}"
        created = await self.organizations.CreateOrganization(
            organizations_pb2.CreateOrganizationRequest(name=name), metadata=self.admin
        )
        tenant = Tenant(self, created.organization.id, name)
        tenant.admin_user = await tenant.join("lead", access_pb2.ROLE_ORG_ADMIN)
        tenant.user_user = await tenant.join("dev", access_pb2.ROLE_ORG_USER)
        return tenant


@dataclass
class Person:
    """An active user."""

    id: str
    email: str
    tokens: sessions_pb2.SessionTokens


@dataclass
class Tenant:
    """An organisation and its people."""

    identity: Identity
    id: str
    name: str
    admin_user: Person | None = None
    user_user: Person | None = None

    async def join(self, local: str, role: int) -> Person:
        """Invites and accepts."""
        email = f"{local}-{uuid.uuid4().hex[:6]}@{self.name}.test"
        invited = await self.identity.users.InviteUser(
            users_pb2.InviteUserRequest(organization_id=self.id, email=email, role=role),
            metadata=self.identity.admin,
        )
        accepted = await self.identity.sessions.AcceptInvite(
            sessions_pb2.AcceptInviteRequest(
                invitation_token=invited.invitation_token, password=PASSWORD
            ),
            metadata=self.identity.anonymous,
        )
        return Person(accepted.user.id, email, accepted.tokens)

    @property
    def admin(self) -> Metadata:
        """The Org Admin's session."""
        return self.identity.session(Role.ORG_ADMIN, self.id, self.admin_user.id)

    @property
    def user(self) -> Metadata:
        """The Org User's session."""
        return self.identity.session(Role.ORG_USER, self.id, self.user_user.id)

    async def new_key(self, **fields: object) -> api_keys_pb2.CreateApiKeyResponse:
        """A key of the Org User's."""
        return await self.identity.api_keys.CreateApiKey(
            api_keys_pb2.CreateApiKeyRequest(**{"name": "test", **fields}), metadata=self.user
        )


@asynccontextmanager
async def running(settings: IdentitySettings) -> AsyncIterator[Identity]:
    """A served identity on a port of its own, migrated and bootstrapped."""
    url = settings.database_url.get_secret_value()
    await asyncio.to_thread(wiring.migrate, settings)
    await wiring.create_super_admin(settings, ADMIN_EMAIL, PASSWORD)
    socket = f"unix:/tmp/ias-identity-{uuid.uuid4().hex}.sock"
    settings = settings.model_copy(update={"identity_listen": socket})
    async with wiring.opening(settings, quick_passwords()) as service:
        secret = settings.mesh_secret.get_secret_value()
        verifier = CallerVerifier(settings.public_keys(), secret, service.name)
        aio_server, _ = server.build(settings, service, verifier)
        await aio_server.start()
        pool = await asyncpg.create_pool(url, min_size=0, max_size=3)
        async with grpc.aio.insecure_channel(socket) as channel:
            identity = Identity(
                settings, channel, CallerSigner(settings.private_key()), verifier, pool
            )
            identity.admin_id = str(
                await pool.fetchval("select id from identity.users where email = $1", ADMIN_EMAIL)
            )
            yield identity
        await aio_server.stop(None)
        pool.terminate()


@dataclass
class Refusal:
    """How a call failed."""

    code: str
    reason: str
    message: str
    metadata: dict[str, str]


async def refusal_of(call: Awaitable[object]) -> Refusal:
    """Awaits a call that must fail, with an ErrorInfo."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            info = error_details_pb2.ErrorInfo()
            assert status.details[0].Unpack(info)
            return Refusal(error.code().name, info.reason, error.details(), dict(info.metadata))
    raise AssertionError(f"no ErrorInfo: {error}")


@dataclass
class Verdict:
    """What Check answered."""

    response: external_auth_pb2.CheckResponse
    verifier: CallerVerifier

    @property
    def allowed(self) -> bool:
        return self.response.HasField("ok_response") and self.response.status.code == 0

    @property
    def status(self) -> int:
        return self.response.denied_response.status.code

    @property
    def headers(self) -> dict[str, str]:
        part = self.response.ok_response if self.allowed else self.response.denied_response
        return {option.header.key: option.header.value for option in part.headers}

    @property
    def body(self) -> str:
        return self.response.denied_response.body

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def metadata(self) -> Metadata:
        """What Envoy would pass on."""
        return ((HEADER, self.headers[HEADER]),)

    @property
    def caller(self) -> Caller:
        return self.verifier.verify(self.headers[HEADER])


def check_request(
    credential: str | None = None,
    *,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    content_type: str = "application/json",
    model: str = "",
    address: str = "203.0.113.7",
    authorization: str | None = None,
) -> external_auth_pb2.CheckRequest:
    """A request as Envoy describes it."""
    request = external_auth_pb2.CheckRequest()
    http = request.attributes.request.http
    http.method, http.path = method, path
    if content_type:
        http.headers["content-type"] = content_type
    if credential is not None:
        http.headers["authorization"] = f"Bearer {credential}"
    if authorization is not None:
        http.headers["authorization"] = authorization
    request.attributes.source.address.socket_address.address = address
    metadata = request.attributes.metadata_context.filter_metadata
    if model and content_type.startswith("application/grpc"):
        metadata["envoy.filters.http.grpc_field_extraction"].update({"model": [model]})
    elif model:
        metadata["ias.req"].update({"model": model})
    return request


Check = Callable[..., Awaitable[Verdict]]


def check_of(identity: Identity) -> Check:
    """Asks Check over the wire."""
    stub = external_auth_pb2_grpc.AuthorizationStub(identity.channel)

    async def ask(credential: str | None = None, **facts: Any) -> Verdict:
        return Verdict(await stub.Check(check_request(credential, **facts)), identity.verifier)

    return ask
