"""Makes the demo data through the front door, as a person would. Goes on where it was stopped."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import field_mask_pb2
from ias.access.v1 import access_pb2
from ias.identity.v1 import (
    api_keys_pb2,
    api_keys_pb2_grpc,
    organizations_pb2,
    organizations_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
    users_pb2,
    users_pb2_grpc,
)
from ias.inference.v1 import models_pb2, models_pb2_grpc
from ias.metering.v1 import budgets_pb2, budgets_pb2_grpc

from ias_dev import demo, keys, waiting
from ias_dev.demo import Demo
from ias_dev.keys import Keys
from ias_dev.services import BOOTSTRAP_EMAIL
from ias_dev.settings import DevError, Settings

ORGANIZATION = "demo"
BUDGET_TOKENS = 10_000_000
"""A month's worth for the demo organisation."""
_TIMEOUT_S = 15

Metadata = tuple[tuple[str, str | bytes], ...]


def seed(settings: Settings, known: Keys) -> Demo:
    """The demo data, each part made when it is missing. Raises DevError when that fails."""
    with grpc.insecure_channel(settings.grpc_target) as channel:
        admin = waiting.until(
            lambda: _login(channel, BOOTSTRAP_EMAIL, known.admin_password),
            "The System Admin's login",
            timeout_s=20,
        )
        organization = _organization(channel, admin)
        _model(channel, admin)
        known, user = _user(channel, admin, settings, known, organization)
        known = _api_key(channel, user, settings, known)
    return Demo(known, organization)


def _login(channel: grpc.Channel, email: str, password: str) -> Metadata:
    stub = sessions_pb2_grpc.SessionServiceStub(channel)
    request = sessions_pb2.LoginRequest(email=email, password=password)
    try:
        answer = stub.Login(request, timeout=_TIMEOUT_S)
    except grpc.RpcError as error:
        if _code(error) is grpc.StatusCode.UNAUTHENTICATED:
            raise DevError(
                f"{email} can't sign in: this database was set up with another password. "
                "`make dev-down PURGE=1` begins anew (and deletes the stack's data)."
            ) from error
        raise
    return (("authorization", f"Bearer {answer.tokens.access_token}"),)


def _organization(channel: grpc.Channel, admin: Metadata) -> str:
    """Its id. The budget is set with a new one alone, so that what people change stays."""
    stub = organizations_pb2_grpc.OrganizationServiceStub(channel)
    created = _unless_exists(
        stub.CreateOrganization,
        organizations_pb2.CreateOrganizationRequest(name=ORGANIZATION, display_name="Demo"),
        admin,
    )
    if created is None:
        get = organizations_pb2.GetOrganizationRequest(organization_id=ORGANIZATION)
        found = stub.GetOrganization(get, metadata=admin, timeout=_TIMEOUT_S)
        return str(found.organization.id)
    identifier = str(created.organization.id)
    budget = budgets_pb2.Budget(
        scope=budgets_pb2.BudgetScope(organization_id=identifier), limit_tokens=BUDGET_TOKENS
    )
    budgets_pb2_grpc.BudgetServiceStub(channel).UpdateBudget(
        budgets_pb2.UpdateBudgetRequest(budget=budget), metadata=admin, timeout=_TIMEOUT_S
    )
    return identifier


def _model(channel: grpc.Channel, admin: Metadata) -> None:
    model = models_pb2.Model(
        name=demo.MODEL,
        display_name="Mock GPT",
        backend=models_pb2.Backend(
            engine=models_pb2.ENGINE_KIND_MOCK,
            url="mock:?switches=1",
        ),
        prompt_price_nanos=1000,
        completion_price_nanos=2000,
        context_length=32768,
    )
    stub = models_pb2_grpc.ModelServiceStub(channel)
    _unless_exists(stub.CreateModel, models_pb2.CreateModelRequest(model=model), admin)


def register(settings: Settings, known: Keys, name: str, url: str) -> None:
    """A model that an adapter process of its own serves, at that URL alone."""
    with grpc.insecure_channel(settings.grpc_target) as channel:
        admin = _login(channel, BOOTSTRAP_EMAIL, known.admin_password)
        backend = models_pb2.Backend(
            engine=models_pb2.ENGINE_KIND_VLLM, url=url, upstream_model=name
        )
        model = models_pb2.Model(name=name, backends=[backend])
        stub = models_pb2_grpc.ModelServiceStub(channel)
        _unless_exists(stub.CreateModel, models_pb2.CreateModelRequest(model=model), admin)
        found = stub.GetModel(
            models_pb2.GetModelRequest(name=name), metadata=admin, timeout=_TIMEOUT_S
        ).model
        if [known.url for known in found.backends] != [url]:
            change = models_pb2.UpdateModelRequest(
                model=model, update_mask=field_mask_pb2.FieldMask(paths=["backends"])
            )
            stub.UpdateModel(change, metadata=admin, timeout=_TIMEOUT_S)


def _user(
    channel: grpc.Channel, admin: Metadata, settings: Settings, known: Keys, organization: str
) -> tuple[Keys, Metadata]:
    request = users_pb2.InviteUserRequest(
        organization_id=organization, email=demo.USER_EMAIL, role=access_pb2.ROLE_ORG_ADMIN
    )
    stub = users_pb2_grpc.UserServiceStub(channel)
    invited = _unless_exists(stub.InviteUser, request, admin)
    if invited is not None:
        known = keys.update(settings.folder, known, demo_invitation=invited.invitation_token)
    if known.demo_invitation:
        accept = sessions_pb2.AcceptInviteRequest(
            invitation_token=known.demo_invitation, password=known.demo_user_password
        )
        try:
            sessions_pb2_grpc.SessionServiceStub(channel).AcceptInvite(accept, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            # Accepted already, by a start that was stopped before it could note so.
            if _code(error) is not grpc.StatusCode.UNAUTHENTICATED:
                raise
        known = keys.update(settings.folder, known, demo_invitation="")
    return known, _login(channel, demo.USER_EMAIL, known.demo_user_password)


def _api_key(channel: grpc.Channel, user: Metadata, settings: Settings, known: Keys) -> Keys:
    if known.demo_api_key and demo.key_works(settings, known.demo_api_key):
        return known
    created = api_keys_pb2_grpc.ApiKeyServiceStub(channel).CreateApiKey(
        api_keys_pb2.CreateApiKeyRequest(name="demo"), metadata=user, timeout=_TIMEOUT_S
    )
    return keys.update(settings.folder, known, demo_api_key=created.secret)


def _unless_exists(call: Callable[..., Any], request: object, metadata: Metadata) -> Any:
    """The answer; None when the thing exists already."""
    try:
        return call(request, metadata=metadata, timeout=_TIMEOUT_S)
    except grpc.RpcError as error:
        if _code(error) is grpc.StatusCode.ALREADY_EXISTS:
            return None
        raise


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    return error.code()
