"""/api/v1 through Envoy: proto3 JSON, and google.rpc.Status for whatever fails."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from ias.identity.v1 import users_pb2
from ias.metering.v1 import budgets_pb2
from ias_front import Front


async def test_an_answer_is_proto3_json_with_the_contracts_names(front: Front) -> None:
    async def answer(_: bytes, __: Any) -> AsyncIterator[bytes]:
        yield users_pb2.ListUsersResponse(next_page_token="next").SerializeToString()

    front.identity.behaviours["ListUsers"] = answer
    async with front.ask("GET", "/api/v1/users?page_size=7") as response:
        assert response.status == 200
        assert await response.json() == {"users": [], "next_page_token": "next"}
        leaked = [name for name in response.headers if name.lower().startswith(("grpc-", "x-ias-"))]
    assert leaked == []
    assert users_pb2.ListUsersRequest.FromString(front.identity.calls[0].request).page_size == 7


async def test_parts_of_a_path_arrive_in_the_message(front: Front) -> None:
    async with front.ask("GET", "/api/v1/users/42/budget") as response:
        assert response.status == 200
    request = budgets_pb2.GetBudgetRequest.FromString(front.metering.calls[0].request)
    assert request.scope.user_id == "42"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.NOT_FOUND, 404),
        (grpc.StatusCode.UNAVAILABLE, 503),
        (grpc.StatusCode.PERMISSION_DENIED, 403),
    ],
)
async def test_a_failure_is_a_status_as_json(
    front: Front, code: grpc.StatusCode, status: int
) -> None:
    async def abort(_: bytes, context: Any) -> AsyncIterator[bytes]:
        await context.abort(code, "It isn't so.")
        yield b""

    front.identity.behaviours["GetUser"] = abort
    async with front.ask("GET", "/api/v1/users/42") as response:
        assert response.status == status
        body = await response.json()
        leaked = [name for name in response.headers if name.lower().startswith("grpc-")]
    assert (body["code"], body["message"]) == (code.value[0], "It isn't so.")
    assert leaked == []


async def test_malformed_json_is_the_clients_fault(front: Front) -> None:
    async with front.ask("POST", "/api/v1/auth/login", data=b'{"email": 1') as response:
        assert response.status == 400
        assert (await response.json())["code"] == 3
    assert front.reached == []


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/", "/favicon.ico", "/v1x"])
async def test_an_unknown_url_is_a_status_as_json(front: Front, path: str) -> None:
    async with front.ask("GET", path) as response:
        assert response.status == 404
        assert await response.json() == {"code": 5, "message": f"Unknown request URL: GET {path}"}


async def test_a_login_body_is_not_read_for_a_model(front: Front) -> None:
    body = {"model": "m", "email": "a@b.example", "password": "secret"}
    async with front.ask("POST", "/api/v1/auth/login", json=body):
        pass
    [check] = front.authorization.checks
    assert not check.attributes.metadata_context.filter_metadata
