"""Nothing passes without a key: every path, every trick; and nothing that a client claims is believed."""

import http.client
import json
import socket

import grpc
import httpx2 as httpx
import pytest
from ias.identity.v1 import organizations_pb2, organizations_pb2_grpc
from ias.inference.v1 import chat_pb2, chat_pb2_grpc
from ias.metering.v1 import budgets_pb2, budgets_pb2_grpc, leases_pb2, leases_pb2_grpc

CHAT = json.dumps({"model": "mock-gpt", "messages": [{"role": "user", "content": "hi"}]})
PATHS = [
    "/v1/chat/completions",
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/chat%2Fcompletions",
    "/v1/%63hat/completions",
    "/%76%31/chat/completions",
    "/x/../v1/chat/completions",
    "/x/%2e%2e/v1/chat/completions",
    "/v1/chat/completions/",
    "/v1/chat/completions?key=1",
    "/V1/CHAT/COMPLETIONS",
    "/v1/models",
    "/v1/models/mock-gpt",
    "/ias.inference.v1.OpenAIService/CreateChatCompletion",
    "/ias.inference.v1.OpenAIService/ListModels",
    "//ias.inference.v1.OpenAIService/CreateChatCompletion",
    "/ias.inference.v1.ChatService/Chat",
    "/ias.metering.v1.QuotaService/AcquireLease",
    "/ias.inference.v1.EngineService/GetServedModels",
    "/ias.identity.v1.OrganizationService/ListOrganizations",
    "/api/v1/organizations",
    "/api/v1/models",
    "/api/v1/usage",
    "/api//v1/organizations",
    "/api/v1/auth/../organizations",
    "/api/v1/auth/%2e%2e/organizations",
    "/",
    "/unknown",
    "/envoy.service.auth.v3.Authorization/Check",
]


def raw(stack, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Sends the path exactly as it is."""
    connection = http.client.HTTPConnection(stack.host, stack.port, timeout=10)
    connection.putrequest(method, path, skip_accept_encoding=True)
    body = CHAT.encode() if method == "POST" else b""
    for name, value in {"content-type": "application/json", **headers}.items():
        connection.putheader(name, value)
    connection.putheader("content-length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_to_a_service_without_a_key(stack, path):
    forged = {"x-ias-caller": "forged", "X-IAS-Upstream": "inference"}
    before = stack.calls_handled()
    for method in ("GET", "POST"):
        for headers in ({}, forged, {"authorization": "Bearer ias_" + "x" * 52}):
            status, content = raw(stack, method, path, headers)
            assert status in (301, 400, 401, 404, 405), (method, path, headers, status, content)
    assert stack.calls_handled() == before, "no handler has run"


@pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc-web+proto"])
def test_grpc_paths_ask_for_a_key_in_every_framing(stack, content_type):
    headers = {"content-type": content_type, "te": "trailers"}
    before = stack.calls_handled()
    with httpx.Client(base_url=stack.url, http2=False) as client:
        for path in PATHS:
            if path.startswith("/ias."):
                answer = client.post(path, content=b"\0\0\0\0\0", headers=headers)
                refused = answer.status_code in (401, 404) or answer.headers.get("grpc-status") in (
                    "16",
                    "12",
                    "5",
                )
                assert refused, (path, answer.status_code, answer.headers)
    assert stack.calls_handled() == before


def test_what_a_client_claims_to_be_is_not_believed(stack):
    for name in ("x-ias-caller", "X-Ias-Caller", "x-ias-upstream", "x-ias-http-status"):
        headers = {**stack.bearer, name: "metering, forged"}
        status, content = raw(stack, "POST", "/v1/chat/completions", headers)
        assert status == 200, content
        assert b"chat.completion" in content


async def test_a_service_called_directly_refuses_whoever_has_no_signed_caller(stack):
    calls = [
        (stack.identity, organizations_pb2_grpc.OrganizationServiceStub, "ListOrganizations",
         organizations_pb2.ListOrganizationsRequest()),
        (stack.metering, leases_pb2_grpc.QuotaServiceStub, "AcquireLease",
         leases_pb2.AcquireLeaseRequest(need_tokens=1)),
        (stack.metering, budgets_pb2_grpc.BudgetServiceStub, "GetBudget",
         budgets_pb2.GetBudgetRequest()),
        (stack.inference, chat_pb2_grpc.ChatServiceStub, "Chat", chat_pb2.ChatRequest()),
    ]  # fmt: skip
    for target, stub, method, request in calls:
        async with grpc.aio.insecure_channel(target) as channel:
            for metadata in (
                (),
                (("x-ias-caller", "forged"),),
                (("authorization", stack.bearer["authorization"]),),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await getattr(stub(channel), method)(request, metadata=metadata)
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_session_does_not_call_models_and_a_key_does_not_manage(stack):
    session = {"authorization": f"Bearer {stack.admin_token()}"}
    status, content = raw(stack, "POST", "/v1/chat/completions", session)
    assert status == 403
    assert json.loads(content)["error"]["type"] == "permission_error"
    status, content = raw(stack, "GET", "/api/v1/organizations", stack.bearer)
    assert status == 403
    assert json.loads(content)["code"] == 7


def test_an_oversized_or_broken_request_is_answered_and_closed(stack):
    with socket.create_connection((stack.host, stack.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n"
        )
        assert b" 400 " in connection.recv(4096)
    status, content = raw(stack, "GET", "/v1/models", {**stack.bearer, "bad_header": "x"})
    assert status == 400, content
