"""The real Envoy in front of services that record everything that reaches them."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import yarl
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from google.api import httpbody_pb2
from grpc_health.v1 import health, health_pb2_grpc
from ias_testing import free_address

from ias_envoy.model import Cluster, Edge
from ias_envoy.render import render
from ias_envoy.watch import write

DESCRIPTORS = Path(__file__).parents[2] / "gen" / "descriptors.binpb"
KEY = "Bearer good"
ORIGIN = "https://portal.example"
OPTIONS = [("grpc.max_receive_message_length", 32 * 1024 * 1024)]

Behaviour = Callable[[bytes, Any], AsyncIterator[bytes]]


@dataclass
class Call:
    """One call that reached a service."""

    method: str
    metadata: list[tuple[str, str]]
    request: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.metadata if key == name]


def http_body(data: bytes, content_type: str = "application/json") -> bytes:
    """A google.api.HttpBody, on the wire."""
    return httpbody_pb2.HttpBody(content_type=content_type, data=data).SerializeToString()


async def says_hello(_: bytes, __: Any) -> AsyncIterator[bytes]:
    yield http_body(b'{"hello":"world"}')


async def says_nothing(_: bytes, __: Any) -> AsyncIterator[bytes]:
    yield b""


class Recorder(grpc.GenericRpcHandler):
    """A service that has every method, answers as told, and remembers who came."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = ""
        self.calls: list[Call] = []
        self.behaviours: dict[str, Behaviour] = {}
        self.server: grpc.aio.Server | None = None

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = details.method

        async def answer(requests: Any, context: Any) -> AsyncIterator[bytes]:
            request = b"".join([message async for message in requests])
            self.calls.append(Call(method, list(context.invocation_metadata()), request))
            default = says_hello if "OpenAIService" in method else says_nothing
            behaviour = self.behaviours.get(method.rpartition("/")[2], default)
            async for message in behaviour(request, context):
                yield message

        return grpc.stream_stream_rpc_method_handler(answer)

    async def start(self, address: str, *extra: Callable[[grpc.aio.Server], None]) -> None:
        self.server = grpc.aio.server(options=OPTIONS)
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), self.server)
        for add in extra:
            add(self.server)
        self.server.add_generic_rpc_handlers((self,))
        self.server.add_insecure_port(address)
        self.address = address
        await self.server.start()

    async def stop(self) -> None:
        assert self.server is not None
        await self.server.stop(None)


class Authorization(external_auth_pb2_grpc.AuthorizationServicer):
    """Identity's part in miniature: one good key; the model `elsewhere` has no cluster."""

    def __init__(self) -> None:
        self.checks: list[external_auth_pb2.CheckRequest] = []
        self.denial: external_auth_pb2.CheckResponse | None = None
        self.upstreams = {"elsewhere": "nowhere"}
        """Where requests for models go, if not to `inference`."""

    async def Check(self, request: Any, _: Any) -> external_auth_pb2.CheckResponse:
        self.checks.append(request)
        if request.attributes.request.http.headers.get("authorization") != KEY:
            return self.denial or denied(401, "invalid_api_key")
        upstream = self.upstreams.get(str(model_of(request)), "inference")
        allowed = external_auth_pb2.CheckResponse()
        for name, value in (("x-ias-caller", "signed"), ("x-ias-upstream", upstream)):
            header = allowed.ok_response.headers.add()
            header.header.key, header.header.value = name, value
        allowed.ok_response.headers_to_remove.append("authorization")
        return allowed


def model_of(check: external_auth_pb2.CheckRequest) -> str | None:
    """The model that Envoy read from the request; None when it found none."""
    metadata = check.attributes.metadata_context.filter_metadata
    if "ias.req" in metadata:
        return str(metadata["ias.req"]["model"])
    native = metadata.get("envoy.filters.http.grpc_field_extraction")
    return None if native is None else str(native["model"][0])


def denied(status: int, code: str) -> external_auth_pb2.CheckResponse:
    """A denial as identity words it."""
    response = external_auth_pb2.CheckResponse()
    response.status.code = 16
    response.denied_response.status.code = status
    response.denied_response.body = json.dumps({"error": {"message": "No.", "code": code}})
    header = response.denied_response.headers.add()
    header.header.key, header.header.value = "x-should-retry", "false"
    return response


@dataclass
class Front:
    """A running Envoy and what stands behind it."""

    edge: Edge
    clusters: list[Cluster]
    identity: Recorder
    metering: Recorder
    inference: Recorder
    authorization: Authorization
    http: aiohttp.ClientSession = field(init=False)

    @property
    def key(self) -> list[tuple[str, str]]:
        """The good key, as gRPC metadata."""
        return [("authorization", KEY)]

    @property
    def services(self) -> list[Recorder]:
        return [self.identity, self.metering, self.inference]

    @property
    def reached(self) -> list[str]:
        """Every method of every service that was called."""
        return [call.method for service in self.services for call in service.calls]

    def url(self, path: str) -> str:
        return f"http://{self.edge.listen}{path}"

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """A request with the good key, its path exactly as given."""
        headers = {"authorization": KEY, **more.pop("headers", {})}
        url = yarl.URL(self.url(path), encoded=True)
        return self.http.request(method, url, headers=headers, **more)

    def chat(self, model: str = "m", **more: Any) -> Any:
        return self.ask("POST", "/v1/chat/completions", json={"model": model}, **more)

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.edge.listen)

    def forget(self) -> None:
        for service in self.services:
            service.calls.clear()
            service.behaviours.clear()
        self.authorization.checks.clear()
        self.authorization.denial = None


async def _until_ready(admin: str, process: subprocess.Popen[bytes], log: Path) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(20):
        while True:
            assert process.poll() is None, log.read_text()
            try:
                async with session.get(f"http://{admin}/ready") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running_envoy(edge: Edge, clusters: list[Cluster]) -> AsyncIterator[None]:
    """The real binary with the rendered files."""
    write(render(edge, clusters), edge.config_directory)
    log = edge.config_directory.parent / "envoy.log"
    binary = Path(sys.executable).parent / "envoy"
    options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [binary, "-c", edge.config_directory / "bootstrap.yaml", *options],
            stdout=out,
            stderr=out,
        )
    try:
        await _until_ready(edge.admin, process, log)
        yield
        assert process.poll() is None, f"Envoy died:\n{log.read_text()}"
    finally:
        process.terminate()
        process.wait(10)


@asynccontextmanager
async def running_front(directory: Path, **edge: Any) -> AsyncIterator[Front]:
    """Three recording services and an Envoy in front of them."""
    recorders = [Recorder(name) for name in ("identity", "metering", "inference")]
    authorization = Authorization()

    def authorizes(server: grpc.aio.Server) -> None:
        external_auth_pb2_grpc.add_AuthorizationServicer_to_server(authorization, server)

    for recorder in recorders:
        await recorder.start(free_address(), *([authorizes] if recorder.name == "identity" else []))
    front = Front(
        edge=Edge(
            listen=free_address(),
            admin=free_address(),
            descriptors=DESCRIPTORS,
            config_directory=directory / "config",
            access_log=str(directory / "access.log"),
            cors_origins=(ORIGIN,),
            # On a busy machine the double, in the test's own event loop, may be slow.
            authz_timeout_s=20,
            **edge,
        ),
        clusters=[Cluster(recorder.name, (recorder.address,)) for recorder in recorders],
        identity=recorders[0],
        metering=recorders[1],
        inference=recorders[2],
        authorization=authorization,
    )
    async with aiohttp.ClientSession() as front.http, running_envoy(front.edge, front.clusters):
        yield front
    for recorder in recorders:
        await recorder.stop()
