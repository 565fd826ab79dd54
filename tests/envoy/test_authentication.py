"""Nothing without a key reaches a service, whatever the path looks like."""

import asyncio
import re
from pathlib import Path
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ias_envoy.contract import PublicService, RestRule, public_services

SERVICES = public_services(Path(__file__).parents[2] / "gen" / "descriptors.binpb")
INTERNAL = "ias.metering.v1.QuotaService"


BINDINGS = [
    pytest.param(service, rule, id=f"{rule.method} {rule.template}")
    for service in SERVICES
    for rule in service.rest
]


def example(rule: RestRule) -> str:
    """A path that the binding means."""
    return re.sub(r"\{[^}]*\}", "some-thing", rule.template)


async def raw_http1(listen: str, request: str) -> bytes:
    """Sends bytes that no client library would, and reads the head of the answer."""
    reader, writer = await asyncio.open_connection(*listen.split(":"))
    writer.write(request.replace("\n", "\r\n").encode("latin-1"))
    try:
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    except asyncio.IncompleteReadError as closed:
        return closed.partial
    finally:
        writer.close()


async def raw_http2(listen: str, headers: list[tuple[str, str]], body: bytes) -> dict[str, str]:
    """The same over HTTP/2: the response headers, or {":status": "reset"}."""
    reader, writer = await asyncio.open_connection(*listen.split(":"))
    unchecked = h2.config.H2Configuration(
        validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="utf-8"
    )
    connection = h2.connection.H2Connection(unchecked)
    connection.initiate_connection()
    connection.send_headers(1, headers)
    connection.send_data(1, body, end_stream=True)
    writer.write(connection.data_to_send())
    try:
        async with asyncio.timeout(10):
            while data := await reader.read(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.ResponseReceived):
                        return {str(k): str(v) for k, v in event.headers}
                    if isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                        return {":status": "reset"}
                writer.write(connection.data_to_send())
        return {":status": "reset"}
    finally:
        writer.close()


@pytest.mark.parametrize(("service", "rule"), BINDINGS)
async def test_each_rest_path_asks_for_a_key(front: Any, service: PublicService, rule: RestRule):
    async with front.http.request(rule.method, front.url(example(rule)), data=b"{}") as answer:
        assert answer.status == 401
    assert front.reached == []


@pytest.mark.parametrize(("service", "rule"), BINDINGS)
async def test_each_rest_path_reaches_its_own_service(
    front: Any, service: PublicService, rule: RestRule
):
    async with front.ask(rule.method, example(rule), json={}) as answer:
        assert answer.status == 200, await answer.text()
    owner = getattr(front, service.cluster or "inference")
    assert [call.method.split("/")[1] for call in owner.calls] == [service.name]
    assert len(front.reached) == 1


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
async def test_each_grpc_path_asks_for_a_key(front: Any, service: PublicService):
    async with front.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(f"/{service.name}/Anything")(b"")
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert front.reached == []


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
async def test_each_grpc_path_reaches_its_own_service(front: Any, service: PublicService):
    async with front.channel() as channel:
        call = channel.unary_unary(f"/{service.name}/Anything")
        await call(b"", metadata=[("authorization", "Bearer good")])
    owner = getattr(front, service.cluster or "inference")
    assert [call.method for call in owner.calls] == [f"/{service.name}/Anything"]
    assert len(front.reached) == 1


PATHS = [
    "/v1/chat/completions",
    "//v1/chat/completions",
    "/v1//chat/completions",
    "///v1///chat///completions",
    "/v1/./chat/completions",
    "/x/../v1/chat/completions",
    "/v1/chat/completions/",
    "/v1/chat/completions?x=1",
    "/v1/chat/completions#fragment",
    "/v1/chat/completions;x=1",
    "/v1/chat%2Fcompletions",
    "/v1%2Fchat%2Fcompletions",
    "/%76%31/chat/completions",
    "/v1/%63hat/completions",
    "/%2e%2e/v1/chat/completions",
    "/x/%2e%2e/v1/chat/completions",
    "/v1/%2e/chat/completions",
    "/v1/..%2fv1/chat/completions",
    "/healthz/../v1/chat/completions",
    "/healthz/%2e%2e/v1/chat/completions",
    "/healthz%2f..%2fv1/chat/completions",
    "/grpc.health.v1.Health/../v1/chat/completions",
    "/grpc.health.v1.Health/%2e%2e/v1/chat/completions",
    "/grpc.health.v1.Health/%2e%2e/ias.inference.v1.OpenAIService/CreateChatCompletion",
    "/grpc.health.v1.Health/..%2fias.inference.v1.OpenAIService/CreateChatCompletion",
    "\\v1\\chat\\completions",
    "/v1\\chat\\completions",
    "/V1/chat/completions",
    "/ias.inference.v1.OpenAIService/CreateChatCompletion",
    "//ias.inference.v1.OpenAIService/CreateChatCompletion",
    "/ias%2Einference.v1.OpenAIService/CreateChatCompletion",
    "/IAS.inference.v1.OpenAIService/CreateChatCompletion",
    "/ias.inference.v1.OpenAIService%2FCreateChatCompletion",
    "/ias.metering.v1.QuotaService/AcquireLease",
    "/ias.inference.v1.EngineService/GetServedModels",
    "/ias.identity.v1.UserService/ListUsers",
    "/envoy.service.auth.v3.Authorization/Check",
    "/",
    "/unknown",
    "/api/v1/unknown",
    "/api/v1/users/",
    "xv1/chat/completions",
    "v1/chat/completions",
    "*",
    "",
    "http://elsewhere/v1/chat/completions",
]


@pytest.mark.parametrize("content_type", ["application/json", "application/grpc", "text/plain"])
@pytest.mark.parametrize("path", PATHS)
async def test_no_spelling_of_a_path_gets_past_the_key_over_http2(
    front: Any, path: str, content_type: str
):
    headers = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", path)]
    answer = await raw_http2(
        front.edge.listen, [*headers, ("content-type", content_type), ("te", "trailers")], b"{}"
    )
    assert answer[":status"] != "200" or answer.get("grpc-status", "0") != "0"
    assert front.reached == []


@pytest.mark.parametrize("path", [path for path in PATHS if path])
async def test_no_spelling_of_a_path_gets_past_the_key_over_http1(front: Any, path: str):
    methods = ("POST", "GET", "OPTIONS", "HEAD", "PUT", "CONNECT", "TRACE")
    answers = await asyncio.gather(
        *(
            raw_http1(
                front.edge.listen,
                f"{method} {path} HTTP/1.1\nhost: x\nconnection: close\n"
                "content-type: application/json\ncontent-length: 2\n\n{}",
            )
            for method in methods
        )
    )
    assert [answer for answer in answers if answer.split(b" ")[1:2] == [b"200"]] == []
    assert front.reached == []


@pytest.mark.parametrize("path", ["/v1/../v1//chat/%2e/completions", "//v1/chat/completions"])
async def test_with_a_key_a_path_is_understood_as_it_is_written(front: Any, path: str):
    async with front.ask("POST", path, json={"model": "m"}) as answer:
        assert answer.status == 200
    assert front.reached == ["/ias.inference.v1.OpenAIService/CreateChatCompletion"]


async def test_services_services_call_are_unknown_outside(front: Any):
    async with front.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(f"/{INTERNAL}/AcquireLease")(
                b"", metadata=[("authorization", "Bearer good")]
            )
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    async with front.ask("POST", f"/{INTERNAL}/AcquireLease", json={}) as answer:
        assert answer.status == 404
    assert front.reached == []


async def test_no_header_of_ours_is_taken_from_a_client(front: Any):
    head = (
        "POST /v1/chat/completions HTTP/1.1\nhost: x\nconnection: close\nauthorization: Bearer good\n"
        "content-type: application/json\ncontent-length: 13\n"
        "x-ias-caller: forged\nX-IAS-Caller: forged\nX-Ias-Upstream: metering\n"
        "x-ias-caller: forged, forged\nx-ias-anything: forged\nx-ias-http-status: 200\n"
        "x-envoy-original-path: /forged\nx-envoy-retry-on: 5xx\nx-envoy-max-retries: 9\n"
        "x-request-id: forged\nx-forwarded-for: 6.6.6.6\n\n"
        '{"model":"m"}'
    )
    assert b" 200 " in await raw_http1(front.edge.listen, head)
    [call] = front.inference.calls
    assert call.values("x-ias-caller") == ["signed"]
    assert call.values("x-ias-upstream") == ["inference"]
    assert "forged" not in str(call.metadata)
    assert "6.6.6.6" not in str(call.metadata)
    assert {key for key, _ in call.metadata if key.startswith("x-ias-")} == {
        "x-ias-caller",
        "x-ias-upstream",
    }
    assert call.values("x-envoy-retry-on") == []
    assert call.values("authorization") == []
    assert "forged" not in str(front.authorization.checks)


async def test_a_header_with_an_underscore_is_refused(front: Any):
    async with front.chat(headers={"x_ias_caller": "forged"}) as answer:
        assert answer.status == 400
    assert front.reached == []


async def test_native_grpc_metadata_of_ours_is_stripped_as_well(front: Any):
    async with front.channel() as channel:
        call = channel.unary_unary("/ias.identity.v1.UserService/ListUsers")
        metadata = [("authorization", "Bearer good"), *[("x-ias-caller", "forged")] * 2]
        await call(b"", metadata=metadata)
    assert front.identity.calls[0].values("x-ias-caller") == ["signed"]


async def test_health_and_liveness_need_no_key(front: Any):
    async with front.channel() as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    async with front.http.get(front.url("/healthz")) as liveness:
        assert (liveness.status, await liveness.text()) == (200, "ok\n")
    assert front.authorization.checks == []
