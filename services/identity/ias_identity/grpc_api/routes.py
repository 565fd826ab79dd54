"""What kind of request a path stands for, read from the contracts once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from ias.access.v1 import access_pb2

from ias_runtime.access import rule_of


class Form(Enum):
    """In which form a denial is written."""

    OPENAI = "openai"
    """OpenAI's error object."""
    STATUS = "status"
    """google.rpc.Status as JSON."""
    GRPC = "grpc"
    """gRPC's own headers."""


@dataclass(frozen=True, slots=True, eq=False)  # there are few; equal means the same one
class Route:
    """What Check must know of a path."""

    form: Form
    public: bool = False
    """Whether anyone may call it, without a credential."""
    needs_key: bool = False
    """Whether it is inference."""
    upstream: str = ""
    """The cluster that Envoy shall send it to, where the path alone doesn't say."""
    by_model: bool = False
    """Whether it goes to the cluster that serves the model asked for, rather than to `upstream`."""


_INFERENCE = "inference"
_OPENAI = Route(Form.OPENAI, needs_key=True, upstream=_INFERENCE, by_model=True)
_OPENAI_READ = Route(Form.OPENAI, needs_key=True, upstream=_INFERENCE)
_REST = Route(Form.STATUS)
_REST_PUBLIC = Route(Form.STATUS, public=True)
_REST_MODELS = Route(Form.STATUS, upstream=_INFERENCE)
_GRPC = Route(Form.GRPC)
_GRPC_PUBLIC = Route(Form.GRPC, public=True)
_GRPC_INFERENCE = Route(Form.GRPC, needs_key=True, upstream=_INFERENCE, by_model=True)
_GRPC_MODELS = Route(Form.GRPC, upstream=_INFERENCE)
_MODELS = "/api/v1/models"
_RETRIEVE_MODEL = "/v1/models/"


class Routes:
    """Finds the route of a request."""

    def __init__(self, services: Iterable[ServiceDescriptor]) -> None:
        self._rest_public: set[tuple[str, str]] = set()
        self._grpc: dict[str, Route] = {}
        for service in services:
            for method in service.methods:
                self._grpc[f"/{service.full_name}/{method.name}"] = _route_of(method)
                rule = rule_of(method)
                if rule is not None and rule.public:
                    self._rest_public.update(_rest_of(method))

    def find(self, method: str, path: str, content_type: str) -> Route:
        """The route of an HTTP method and a path without its query."""
        if content_type.startswith("application/grpc"):
            return self._grpc.get(path, _GRPC)
        if path.startswith("/v1/") or path == "/v1":
            return _OPENAI if method == "POST" else _OPENAI_READ
        if path.startswith(_MODELS) and path[len(_MODELS) :][:1] in ("", "/", ":"):
            return _REST_MODELS
        if (method, path) in self._rest_public:
            return _REST_PUBLIC
        # A gRPC path with another content type is a gRPC call that went wrong.
        found = self._grpc.get(path)
        return _REST if found is None or not found.public else _REST_PUBLIC


def model_in(method: str, path: str) -> str:
    """The model that a `GET /v1/models/{model}` asks about, still percent-encoded."""
    if method == "GET" and path.startswith(_RETRIEVE_MODEL):
        return path[len(_RETRIEVE_MODEL) :]
    return ""


def _route_of(method: MethodDescriptor) -> Route:
    rule = rule_of(method)
    if rule is not None and rule.public:
        return _GRPC_PUBLIC
    if rule is not None and rule.permission == access_pb2.PERMISSION_INFERENCE_CALL:
        return _GRPC_INFERENCE
    in_inference = method.containing_service.file.package == "ias.inference.v1"
    return _GRPC_MODELS if in_inference else _GRPC


def _rest_of(method: MethodDescriptor) -> Iterator[tuple[str, str]]:
    """Method and path of each HTTP binding. A public path with a variable isn't supported."""
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return
    first = options.Extensions[annotations_pb2.http]
    for rule in (first, *first.additional_bindings):
        verb = rule.WhichOneof("pattern")
        path = getattr(rule, verb)
        if "{" in path:
            raise ValueError(f"{method.full_name}: a public path can't hold a variable: {path}")
        yield verb.upper(), path
