"""Envoy's ext_authz, `envoy.service.auth.v3.Authorization/Check`: the hot path of IAS.

An answer is serialised once and handed out again for up to REUSE_S seconds to the same
(credential, kind of path, model, address), unless the credential or the routes of models have
changed since.
"""

import hashlib
import os
import time
from typing import Any
from urllib.parse import unquote

import grpc
import structlog
from envoy.service.auth.v3 import external_auth_pb2

from ias_identity.domain.access import Access, Ask, Credential
from ias_identity.domain.model_routes import ModelRoutes
from ias_identity.grpc_api.denials import deny, header
from ias_identity.grpc_api.routes import Route, Routes, model_in
from ias_runtime import metrics
from ias_runtime.caller import Caller, CallerKind
from ias_runtime.caller_token import HEADER, REUSE_S, CallerSigner
from ias_runtime.rpc import as_ias_error

SERVICE = "envoy.service.auth.v3.Authorization"
UPSTREAM_HEADER = "x-ias-upstream"
_ANSWERS = 100_000
_MODEL_MAX = 512  # longer than any name can be, so a cut one is no other model's
_HTTP_MODEL = "ias.req"
_GRPC_MODEL = "envoy.filters.http.grpc_field_extraction"
log = structlog.get_logger()

_AnswerKey = tuple[bytes, Route, str, str]


class Authorization:
    """Answers Envoy."""

    def __init__(
        self, access: Access, signer: CallerSigner, routes: Routes, models: ModelRoutes
    ) -> None:
        self._access = access
        self._signer = signer
        self._find_route = routes.find
        self._models = models
        self._models_version = models.version
        self._answers: dict[_AnswerKey, tuple[float, Credential | None, bytes]] = {}
        # Nobody can tell a credential from this process's memory, nor aim for a collision.
        self._digest_key = os.urandom(32)
        name = f"{SERVICE}/Check"
        self._ok = metrics.CALLS.labels(name, "OK")
        self._latency = metrics.LATENCY.labels(name)
        self._name = name

    def handler(self) -> grpc.GenericRpcHandler:
        """What a grpc server takes: it answers bytes, so nothing is serialised twice."""
        check: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
            self.check,
            request_deserializer=external_auth_pb2.CheckRequest.FromString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"Check": check})

    async def check(self, request: external_auth_pb2.CheckRequest, _: Any = None) -> bytes:
        """A serialised CheckResponse; never fails."""
        started = time.perf_counter()
        attributes = request.attributes
        http = attributes.request.http
        headers = http.headers
        path = http.path.partition("?")[0]
        method = http.method
        route = self._find_route(method, path, headers.get("content-type", ""))
        address = attributes.source.address.socket_address.address
        credential = "" if route.public else _bearer(headers.get("authorization", ""))
        model = _model(attributes, method, path) if route.needs_key else ""
        key = (
            hashlib.blake2b(
                credential.encode(errors="replace"), key=self._digest_key, digest_size=16
            ).digest(),
            route,
            model,
            address,
        )
        if self._models_version != self._models.version:
            self._models_version = self._models.version
            self._answers.clear()
        cached = self._answers.get(key)
        if cached is not None:
            until, known, answer = cached
            if until > time.time() and (known is None or known.live):
                self._ok.inc()
                self._latency.observe(time.perf_counter() - started)
                return answer
            del self._answers[key]
        answer = await self._answer(key, route, Ask(credential, address, model, route.needs_key))
        self._latency.observe(time.perf_counter() - started)
        return answer

    async def _answer(self, key: _AnswerKey, route: Route, ask: Ask) -> bytes:
        now = time.time()
        version = self._models.version
        try:
            if route.public:
                caller, known, until = (
                    Caller(kind=CallerKind.ANONYMOUS, address=ask.address),
                    None,
                    now + REUSE_S,
                )
            else:
                granted = await self._access.authorize(ask)
                caller, known, until = granted.caller, granted.credential, granted.until
            answer = self._allow(caller, route)
        except Exception as error:
            return self._deny(error, route)
        self._ok.inc()
        if (known is None or known.live) and version == self._models.version:
            if len(self._answers) >= _ANSWERS:
                self._answers.pop(next(iter(self._answers)))
            self._answers[key] = (min(until, now + REUSE_S), known, answer)
        return answer

    def _allow(self, caller: Caller, route: Route) -> bytes:
        headers = [header(HEADER, self._signer.sign(caller))]
        upstream = route.upstream
        if route.by_model and caller.model:
            upstream = self._models.cluster_of(caller.model, caller.organization_id)
        if upstream:
            headers.append(header(UPSTREAM_HEADER, upstream))
        response = external_auth_pb2.CheckResponse(
            ok_response=external_auth_pb2.OkHttpResponse(
                headers=headers, headers_to_remove=["authorization"]
            )
        )
        # An empty status means OK, yet must be there: without it Envoy denies.
        response.status.code = 0
        return bytes(response.SerializeToString())

    def _deny(self, error: Exception, route: Route) -> bytes:
        known = as_ias_error(error)
        metrics.CALLS.labels(self._name, known.code).inc()
        if known.code == "INTERNAL":
            log.error("check failed", exc_info=error)
        return deny(known, route.form)


def _bearer(authorization: str) -> str:
    """The token of `Bearer TOKEN`; the whole of anything else, which no credential matches."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else authorization


def _model(attributes: Any, method: str, path: str) -> str:
    """The model asked for: of the JSON body, of the gRPC message, or of the path."""
    metadata = attributes.metadata_context.filter_metadata
    found = ""
    if _HTTP_MODEL in metadata:
        found = metadata[_HTTP_MODEL].fields["model"].string_value
    elif _GRPC_MODEL in metadata:
        values = metadata[_GRPC_MODEL].fields["model"]
        found = values.list_value.values[0].string_value if values.list_value.values else ""
    if not found:
        found = unquote(model_in(method, path))
    return found[:_MODEL_MAX]
