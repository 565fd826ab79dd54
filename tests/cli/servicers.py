"""The services of an IAS in memory, over its state in fake_ias.py."""

import json
from concurrent import futures
from datetime import UTC, datetime
from typing import Any

import grpc
from google.api import httpbody_pb2
from ias.identity.v1 import (
    api_keys_pb2,
    api_keys_pb2_grpc,
    audit_pb2,
    audit_pb2_grpc,
    organizations_pb2,
    organizations_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
    users_pb2,
    users_pb2_grpc,
)
from ias.inference.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    openai_pb2_grpc,
)
from ias.metering.v1 import budgets_pb2, budgets_pb2_grpc, usage_pb2, usage_pb2_grpc

from .fake_ias import PASSWORD, SECRET_KEY, FakeIas, not_found, page, refuse, stamp


class Servicer:
    def __init__(self, ias: FakeIas) -> None:
        self.ias = ias


class Organizations(Servicer, organizations_pb2_grpc.OrganizationServiceServicer):
    def CreateOrganization(self, request, context):
        self.ias.admin(context)
        if any(request.name == one.name for one in self.ias.organizations.values()):
            refuse(context, "ALREADY_EXISTS", "ALREADY_EXISTS", "There is already an acme.")
        if " " in request.name:
            refuse(context, "INVALID_ARGUMENT", "INVALID_FIELD", "name: a-z, 0-9 and -")
        made = self.ias.organization(request.name, request.display_name)
        return organizations_pb2.CreateOrganizationResponse(organization=made)

    def GetOrganization(self, request, context):
        self.ias.caller(context)
        for one in self.ias.organizations.values():
            if request.organization_id in (one.id, one.name):
                return organizations_pb2.GetOrganizationResponse(organization=one)
        return not_found(context, "organization", request.organization_id)

    def ListOrganizations(self, request, context):
        self.ias.caller(context)
        found, more = page(request, list(self.ias.organizations.values()))
        return organizations_pb2.ListOrganizationsResponse(
            organizations=found, next_page_token=more
        )


class Users(Servicer, users_pb2_grpc.UserServiceServicer):
    def InviteUser(self, request, context):
        self.ias.requests.append(request)
        caller = self.ias.admin(context)
        organization_id = request.organization_id or caller.organization_id
        made = self.ias.user(request.email, request.role, organization_id)
        made.status = users_pb2.USER_STATUS_PENDING
        return users_pb2.InviteUserResponse(
            user=made,
            invitation_token=f"invitation-{made.id}",
            expire_time=stamp(datetime(2026, 12, 1, tzinfo=UTC)),
        )

    def GetUser(self, request, context):
        self.ias.admin(context)
        for one in self.ias.users.values():
            if request.user_id.lower() in (one.id, one.email):
                return users_pb2.GetUserResponse(user=one)
        return not_found(context, "user", request.user_id)

    def ListUsers(self, request, context):
        self.ias.admin(context)
        wanted = request.organization_id
        everyone = [one for one in self.ias.users.values() if wanted in ("", one.organization_id)]
        found, more = page(request, everyone)
        return users_pb2.ListUsersResponse(users=found, next_page_token=more)


class ApiKeys(Servicer, api_keys_pb2_grpc.ApiKeyServiceServicer):
    def CreateApiKey(self, request, context):
        self.ias.requests.append(request)
        made = self.ias.key(request.name, self.ias.caller(context))
        made.allowed_models.extend(request.allowed_models)
        made.allowed_cidrs.extend(request.allowed_cidrs)
        if request.HasField("expire_time"):
            made.expire_time.CopyFrom(request.expire_time)
        return api_keys_pb2.CreateApiKeyResponse(api_key=made, secret=SECRET_KEY)

    def GetApiKey(self, request, context):
        self.ias.caller(context)
        if request.api_key_id not in self.ias.keys:
            not_found(context, "api_key", request.api_key_id)
        return api_keys_pb2.GetApiKeyResponse(api_key=self.ias.keys[request.api_key_id])

    def ListApiKeys(self, request, context):
        self.ias.caller(context)
        keys = [
            key
            for key in self.ias.keys.values()
            if request.organization_id in ("", key.organization_id)
            and request.user_id in ("", key.user_id)
        ]
        found, more = page(request, keys)
        return api_keys_pb2.ListApiKeysResponse(api_keys=found, next_page_token=more)

    def RevokeApiKey(self, request, context):
        self.ias.caller(context)
        key = self.ias.keys[request.api_key_id]
        key.revoke_time.CopyFrom(stamp(datetime.now(UTC)))
        return api_keys_pb2.RevokeApiKeyResponse(api_key=key)


class Sessions(Servicer, sessions_pb2_grpc.SessionServiceServicer):
    def Login(self, request, context):
        self.ias.requests.append(request)
        for user in self.ias.users.values():
            if user.email == request.email.lower() and request.password == PASSWORD:
                return sessions_pb2.LoginResponse(tokens=self.ias.tokens(user.id), user=user)
        if request.password == "too often":
            refuse(context, "RESOURCE_EXHAUSTED", "LOGIN_SLOWED", "Too many.", retry_s=4)
        return refuse(context, "UNAUTHENTICATED", "BAD_LOGIN", "Wrong address or password.")

    def Refresh(self, request, context):
        self.ias.requests.append(request)
        user_id = self.ias.refresh_tokens.pop(request.refresh_token, None)
        if user_id is None:
            refuse(context, "UNAUTHENTICATED", "INVALID_CREDENTIAL", "The session has ended.")
        return sessions_pb2.RefreshResponse(tokens=self.ias.tokens(user_id))

    def Logout(self, request, context):
        caller = self.ias.caller(context)
        self.ias.access_tokens = {
            token: user for token, user in self.ias.access_tokens.items() if user != caller.id
        }
        return sessions_pb2.LogoutResponse()

    def AcceptInvite(self, request, context):
        user = self.ias.users.get(request.invitation_token.removeprefix("invitation-"))
        if user is None:
            refuse(context, "UNAUTHENTICATED", "INVALID_INVITATION", "No such invitation.")
        if len(request.password) < 12:
            refuse(context, "INVALID_ARGUMENT", "WEAK_PASSWORD", "12 characters or more.")
        user.status = users_pb2.USER_STATUS_ACTIVE
        return sessions_pb2.AcceptInviteResponse(tokens=self.ias.tokens(user.id), user=user)

    def Whoami(self, request, context):
        return sessions_pb2.WhoamiResponse(user=self.ias.caller(context))


class Audit(Servicer, audit_pb2_grpc.AuditServiceServicer):
    def ListAuditEntries(self, request, context):
        self.ias.admin(context)
        entries = [one for one in self.ias.audit if request.action in ("", one.action)]
        found, more = page(request, entries)
        return audit_pb2.ListAuditEntriesResponse(entries=found, next_page_token=more)


class Models(Servicer, models_pb2_grpc.ModelServiceServicer):
    def CreateModel(self, request, context):
        self.ias.admin(context)
        self.ias.requests.append(request)
        made = models_pb2.Model()
        made.CopyFrom(request.model)
        made.enabled = True
        self._store(made)
        return models_pb2.CreateModelResponse(model=made)

    def _store(self, model):
        for backend in model.backends:
            backend.weight = backend.weight or 1
            backend.upstream_model = backend.upstream_model or model.name
            backend.api_key = "********" if backend.api_key else ""
        model.backend.CopyFrom(model.backends[0])
        self.ias.models[model.name] = model

    def UpdateModel(self, request, context):
        self.ias.requests.append(request)
        model = self._found(request.model.name, context)
        for path in request.update_mask.paths:
            model.ClearField(path)
        asked = models_pb2.Model()
        asked.CopyFrom(request.model)
        asked.ClearField("name")
        model.MergeFrom(asked)
        self._store(model)
        return models_pb2.UpdateModelResponse(model=model)

    def DeleteModel(self, request, context):
        model = self._found(request.name, context)
        del self.ias.models[model.name]
        return models_pb2.DeleteModelResponse()

    def CheckModel(self, request, context):
        model = self._found(request.name, context)
        checks = [
            models_pb2.BackendCheck(
                url=backend.url,
                reachable="dead" not in backend.url,
                latency_ms=1.5,
                served_models=["up"],
                problems=["It can't be reached."] if "dead" in backend.url else [],
            )
            for backend in model.backends
        ]
        return models_pb2.CheckModelResponse(name=model.name, backends=checks)

    def _found(self, name, context):
        self.ias.admin(context)
        for model in self.ias.models.values():
            if name == model.name or name in model.aliases:
                return model
        return not_found(context, "model", name)

    def GetModel(self, request, context):
        return models_pb2.GetModelResponse(model=self._found(request.name, context))

    def ListModels(self, request, context):
        self.ias.admin(context)
        found, more = page(request, sorted(self.ias.models.values(), key=lambda one: one.name))
        return models_pb2.ListModelsResponse(models=found, next_page_token=more)

    def EnableModel(self, request, context):
        model = self._found(request.name, context)
        model.enabled = True
        return models_pb2.EnableModelResponse(model=model)

    def DisableModel(self, request, context):
        model = self._found(request.name, context)
        model.enabled = False
        return models_pb2.DisableModelResponse(model=model)


class Budgets(Servicer, budgets_pb2_grpc.BudgetServiceServicer):
    def _of(self, scope):
        made = budgets_pb2.Budget(
            scope=scope,
            reset_day=1,
            spent_tokens=1200,
            leased_tokens=300,
            period_start_time=stamp(datetime(2026, 11, 1, tzinfo=UTC)),
            reset_time=stamp(datetime(2026, 12, 1, tzinfo=UTC)),
        )
        scope_key = (scope.organization_id, scope.user_id, scope.api_key_id)
        return self.ias.budgets.setdefault(scope_key, made)

    def GetBudget(self, request, context):
        self.ias.caller(context)
        return budgets_pb2.GetBudgetResponse(budget=self._of(request.scope))

    def UpdateBudget(self, request, context):
        self.ias.admin(context)
        self.ias.requests.append(request)
        held = self._of(request.budget.scope)
        if "limit_tokens" in request.update_mask.paths:
            held.ClearField("limit_tokens")
            held.ClearField("remaining_tokens")
            if request.budget.HasField("limit_tokens"):
                held.limit_tokens = request.budget.limit_tokens
                held.remaining_tokens = max(0, held.limit_tokens - 1500)
        if "reset_day" in request.update_mask.paths:
            held.reset_day = request.budget.reset_day
        return budgets_pb2.UpdateBudgetResponse(budget=held)


class Usage(Servicer, usage_pb2_grpc.UsageServiceServicer):
    def QueryUsage(self, request, context):
        self.ias.caller(context)
        self.ias.requests.append(request)
        found, more = page(request, self.ias.usage)
        return usage_pb2.QueryUsageResponse(rows=found, next_page_token=more)


class Inference(Servicer, chat_pb2_grpc.ChatServiceServicer, openai_pb2_grpc.OpenAIServiceServicer):
    def _with_key(self, context):
        bearer = dict(context.invocation_metadata()).get("authorization", "")
        if bearer != f"Bearer {SECRET_KEY}":
            # What Envoy makes of a refused check: the HTTP body in the place of the message.
            body = {"error": {"message": "Incorrect API key.", "code": "invalid_api_key"}}
            context.abort(grpc.StatusCode.UNAUTHENTICATED, json.dumps(body))

    def StreamChat(self, request, context):
        self._with_key(context)
        self.ias.requests.append(request)
        if request.model not in self.ias.models:
            refuse(context, "NOT_FOUND", "MODEL_NOT_FOUND", f"No model {request.model!r}.")
        for word in ("Hello", ", ", "world"):
            yield chat_pb2.StreamChatResponse(id="chat-1", model=request.model, content=word)
            if self.ias.stream_fails:
                refuse(context, "RESOURCE_EXHAUSTED", "INSUFFICIENT_QUOTA", "No tokens left.")
        yield chat_pb2.StreamChatResponse(
            id="chat-1",
            model=request.model,
            finish_reason=chat_pb2.FINISH_REASON_STOP,
            usage=chat_pb2.ChatUsage(prompt_tokens=1234, completion_tokens=3, total_tokens=1237),
        )

    def ListModels(self, request, context):
        self._with_key(context)
        body = json.dumps({"data": [{"id": name} for name in self.ias.models]}).encode()
        yield httpbody_pb2.HttpBody(content_type="application/json", data=body[:5])
        yield httpbody_pb2.HttpBody(data=body[5:])


def served(fake: FakeIas) -> Any:
    """A server of all of these on a free port; not started."""
    server = grpc.server(futures.ThreadPoolExecutor(8))
    organizations_pb2_grpc.add_OrganizationServiceServicer_to_server(Organizations(fake), server)
    users_pb2_grpc.add_UserServiceServicer_to_server(Users(fake), server)
    api_keys_pb2_grpc.add_ApiKeyServiceServicer_to_server(ApiKeys(fake), server)
    sessions_pb2_grpc.add_SessionServiceServicer_to_server(Sessions(fake), server)
    audit_pb2_grpc.add_AuditServiceServicer_to_server(Audit(fake), server)
    models_pb2_grpc.add_ModelServiceServicer_to_server(Models(fake), server)
    budgets_pb2_grpc.add_BudgetServiceServicer_to_server(Budgets(fake), server)
    usage_pb2_grpc.add_UsageServiceServicer_to_server(Usage(fake), server)
    chat_pb2_grpc.add_ChatServiceServicer_to_server(Inference(fake), server)
    openai_pb2_grpc.add_OpenAIServiceServicer_to_server(Inference(fake), server)
    fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    return server
