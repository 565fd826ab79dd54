"""Check: every kind of path × every kind of credential."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

from ias_identity.domain import api_keys
from ias_runtime.caller import CallerKind, Role

GRPC = {"content_type": "application/grpc", "method": "POST"}
JSON_V1 = {"path": "/v1/chat/completions"}
JSON_API = {"path": "/api/v1/organizations", "method": "GET", "content_type": ""}
GRPC_CHAT = {"path": "/ias.inference.v1.ChatService/Chat", **GRPC}
GRPC_API = {"path": "/ias.identity.v1.OrganizationService/ListOrganizations", **GRPC}
REFLECTION = {
    "path": "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    **GRPC,
}
UNKNOWN = {"path": "/nothing/here", "method": "GET", "content_type": ""}
PRIVATE = [JSON_V1, JSON_API, GRPC_CHAT, GRPC_API, REFLECTION, UNKNOWN]
PUBLIC = [
    {"path": "/api/v1/auth/login"},
    {"path": "/api/v1/auth/refresh"},
    {"path": "/api/v1/auth/accept-invite"},
    {"path": "/ias.identity.v1.SessionService/Login", **GRPC},
    {"path": "/ias.identity.v1.SessionService/Refresh", **GRPC},
    {"path": "/ias.identity.v1.SessionService/AcceptInvite", **GRPC},
]


@pytest.fixture(scope="module")
async def key(tenant):
    return await tenant.new_key()


@pytest.mark.parametrize("path", PRIVATE, ids=lambda path: path["path"])
@pytest.mark.parametrize(
    "bad", ["nothing", "garbage", "made_up", "unknown", "wrong_secret", "forged_session", "basic"]
)
async def test_without_a_valid_credential_every_private_path_is_refused(check, key, path, bad):
    forms = {
        "nothing": {},
        "garbage": {"credential": "sk-nonsense"},
        "made_up": {"credential": "ias_" + "A" * 52},
        "unknown": {"credential": api_keys.generate()},
        "wrong_secret": {"credential": with_other_secret(key.secret)},
        "forged_session": {"credential": "iass_" + "A" * 75},
        "basic": {"authorization": "Basic dXNlcjpwYXNz"},
    }
    verdict = await check(**forms[bad], **path)
    assert not verdict.allowed
    assert verdict.status == 401
    assert verdict.headers["www-authenticate"] == "Bearer"
    assert verdict.body
    assert "x-ias-caller" not in verdict.headers
    if path is JSON_V1:
        error = verdict.json["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
        assert set(error) == {"message", "type", "param", "code"}
    elif path.get("content_type") == "application/grpc":
        assert verdict.headers["grpc-status"] == "16"
        assert error_info(verdict).reason == "INVALID_CREDENTIAL"
    else:
        assert verdict.json["code"] == 16
        assert verdict.json["details"][0]["reason"] == "INVALID_CREDENTIAL"


@pytest.mark.parametrize("path", PRIVATE, ids=lambda path: path["path"])
async def test_a_valid_key_is_let_through_as_its_owner(check, tenant, key, path):
    verdict = await check(key.secret, **path)
    assert verdict.allowed
    caller = verdict.caller
    assert caller.kind is CallerKind.API_KEY
    assert caller.role is Role.ORG_USER
    assert caller.organization_id == tenant.id
    assert caller.user_id == tenant.user_user.id
    assert caller.api_key_id == key.api_key.id
    assert caller.address == "203.0.113.7"
    assert list(verdict.response.ok_response.headers_to_remove) == ["authorization"]
    expected = "inference" if path in (JSON_V1, GRPC_CHAT) else None
    assert verdict.headers.get("x-ias-upstream") == expected


@pytest.mark.parametrize("path", PRIVATE, ids=lambda path: path["path"])
async def test_a_session_is_let_through_but_not_to_inference(check, tenant, path):
    verdict = await check(tenant.user_user.tokens.access_token, **path)
    if path is JSON_V1:
        assert verdict.status == 403
        assert verdict.json["error"]["type"] == "permission_error"
        assert verdict.json["error"]["code"] == "wrong_credential_kind"
    elif path is GRPC_CHAT:
        assert verdict.headers["grpc-status"] == "7"
        assert error_info(verdict).reason == "WRONG_CREDENTIAL_KIND"
    else:
        assert verdict.caller.kind is CallerKind.SESSION
        assert verdict.caller.user_id == tenant.user_user.id


@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: path["path"])
@pytest.mark.parametrize("credential", [None, "garbage", "valid"])
async def test_public_paths_are_open_to_everyone_as_nobody(check, key, path, credential):
    credential = key.secret if credential == "valid" else credential
    verdict = await check(credential, **path)
    assert verdict.allowed
    assert verdict.caller.kind is CallerKind.ANONYMOUS
    assert verdict.caller.address == "203.0.113.7"


@pytest.mark.parametrize(
    "near",
    [
        {"path": "/api/v1/auth/login", "method": "GET"},
        {"path": "/api/v1/auth/login/"},
        {"path": "/api/v1/auth/loginx"},
        {"path": "/api/v1/auth/login%2f"},
        {"path": "/api/v1/auth/logout"},
        {"path": "/ias.identity.v1.SessionService/Logout", **GRPC},
        {"path": "/ias.identity.v1.SessionService/login", **GRPC},
    ],
    ids=lambda path: f"{path.get('method', 'POST')} {path['path']}",
)
async def test_what_only_looks_public_is_not(check, near):
    assert (await check(None, **near)).status == 401


@pytest.mark.parametrize("authorization", ["bearer {}", "BEARER {}", "Bearer   {} "])
async def test_the_scheme_is_read_in_any_case(check, key, authorization):
    assert (await check(authorization=authorization.format(key.secret))).allowed


async def test_the_denial_never_shows_the_key(check, key):
    for wrong in (with_other_secret(key.secret), api_keys.generate(), key.secret[:-1] + "x"):
        verdict = await check(wrong)
        assert wrong not in verdict.body
        assert wrong[8:-4] not in verdict.body


async def test_the_model_is_in_the_token_for_http_and_for_grpc(check, key):
    assert (await check(key.secret, model="acme/large")).caller.model == "acme/large"
    assert (await check(key.secret, model="acme/large", **GRPC_CHAT)).caller.model == "acme/large"
    assert (await check(key.secret, model="other")).caller.model == "other"


async def test_a_model_that_the_key_does_not_allow_does_not_exist(check, tenant):
    created = await tenant.new_key(allowed_models=["small"])
    assert (await check(created.secret, model="small")).allowed
    denied = await check(created.secret, model="large")
    assert denied.status == 404
    assert denied.json == {
        "error": {
            "message": "The model `large` does not exist or you do not have access to it.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
    grpc_denied = await check(created.secret, model="large", **GRPC_CHAT)
    assert grpc_denied.headers["grpc-status"] == "5"
    assert error_info(grpc_denied).reason == "MODEL_NOT_FOUND"
    retrieve = {"method": "GET", "content_type": ""}
    assert (await check(created.secret, path="/v1/models/small", **retrieve)).allowed
    assert (await check(created.secret, path="/v1/models/org%2Flarge", **retrieve)).status == 404
    assert (await check(created.secret, path="/v1/models", **retrieve)).allowed


async def test_an_address_that_the_key_does_not_allow_is_refused(check, tenant):
    created = await tenant.new_key(allowed_cidrs=["198.51.100.0/24", "2001:db8::/32"])
    for inside in ("198.51.100.9", "2001:db8::1", "::ffff:198.51.100.9"):
        assert (await check(created.secret, address=inside)).allowed
    for outside in ("203.0.113.7", "2001:db9::1", "", "nonsense"):
        verdict = await check(created.secret, address=outside)
        assert verdict.status == 403
        assert verdict.json["error"]["code"] == "address_not_allowed"
        assert verdict.json["error"]["type"] == "permission_error"


async def test_a_key_that_has_expired_is_refused(identity, check, tenant):
    soon = Timestamp()
    soon.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    created = await tenant.new_key(expire_time=soon)
    await identity.pool.execute(
        "update identity.api_keys set expires_at = now() where id = $1", created.api_key.id
    )
    assert (await check(created.secret)).status == 401


@pytest.mark.parametrize("table", ["users", "organizations"])
async def test_keys_and_sessions_of_the_suspended_are_refused(identity, check, table):
    suspended = await identity.new_tenant()
    created = await suspended.new_key()
    who = suspended.user_user.id if table == "users" else suspended.id
    await identity.pool.execute(
        f"update identity.{table} set status = 'suspended' where id = $1", who
    )
    assert (await check(created.secret)).status == 401
    session = suspended.user_user.tokens.access_token
    assert (await check(session, **JSON_API)).status == 401


def with_other_secret(secret):
    """The same key id, another secret, the right checksum."""
    body = secret[:16] + "".join(reversed(secret[16:50]))
    return body + api_keys._checksum(body)


def error_info(verdict):
    encoded = verdict.headers["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info
