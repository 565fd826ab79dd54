"""Between the contract of the registry and the domain."""

from collections.abc import Callable, Iterable
from typing import Any

from ias.inference.v1 import models_pb2

from ias_inference.domain.model_management import MASK, BackendReport
from ias_inference.domain.models import Backend, EngineKind, Model, ModelKind
from ias_inference.grpc_api.default_parameters import from_parameters, to_parameters
from ias_runtime import fields
from ias_runtime.errors import InvalidField

_KINDS = {
    models_pb2.ENGINE_KIND_MOCK: EngineKind.MOCK,
    models_pb2.ENGINE_KIND_OPENAI: EngineKind.OPENAI,
    models_pb2.ENGINE_KIND_VLLM: EngineKind.VLLM,
}
_VALUES = {kind: value for value, kind in _KINDS.items()}
_MODEL_KINDS = {
    models_pb2.MODEL_KIND_CHAT: ModelKind.CHAT,
    models_pb2.MODEL_KIND_COMPLETION: ModelKind.COMPLETION,
    models_pb2.MODEL_KIND_EMBEDDING: ModelKind.EMBEDDING,
    models_pb2.MODEL_KIND_RERANK: ModelKind.RERANK,
}
_MODEL_KIND_VALUES = {kind: value for value, kind in _MODEL_KINDS.items()}
_MAX_SERVED = 100


def to_model(message: models_pb2.Model) -> Model:
    """The model to register. Raises InvalidField naming the field."""
    return Model(
        name=_name(message.name), **{field: read(message) for field, read in _READ.items()}
    )


def to_changes(message: models_pb2.Model, mask: Iterable[str]) -> dict[str, Any]:
    """The attributes that an update changes, by name. Raises InvalidField naming the field."""
    set_fields = (field.name for field, _ in message.ListFields())
    paths = list(mask) or [name for name in set_fields if name in _MASKABLE]
    changes = {}
    for path in paths:
        if path not in _MASKABLE:
            known = ", ".join(_MASKABLE)
            raise InvalidField("update_mask", f"{path[:100]!r} is none of {known}")
        name = "backends" if path == "backend" else path
        changes[name] = _READ[name](message)
    return changes


def from_model(model: Model) -> models_pb2.Model:
    """The model as shown: without its backends' keys."""
    backends = [_from_backend(backend) for backend in model.backends]
    return models_pb2.Model(
        name=model.name,
        display_name=model.display_name,
        backend=backends[0],
        backends=backends,
        kind=_MODEL_KIND_VALUES[model.kind],
        aliases=model.aliases,
        prompt_price_nanos=model.prompt_price_nanos,
        completion_price_nanos=model.completion_price_nanos,
        context_length=model.context_length,
        max_output_tokens=model.max_output_tokens,
        default_max_output_tokens=model.default_max_output_tokens,
        default_parameters=from_parameters(model.default_parameters)
        if model.default_parameters
        else None,
        organization_ids=model.organization_ids,
        allow_chat_template_kwargs=model.allow_chat_template_kwargs,
        enabled=model.enabled,
        create_time=fields.to_timestamp(model.create_time),
        update_time=fields.to_timestamp(model.update_time),
    )


def from_report(report: BackendReport) -> models_pb2.BackendCheck:
    """What a backend said."""
    probe = report.probe
    return models_pb2.BackendCheck(
        url=report.backend.url,
        reachable=probe.reachable,
        latency_ms=round(probe.latency_ms, 3),
        upstream_model=report.backend.upstream_model,
        served_models=[served.name for served in (probe.served or ())[:_MAX_SERVED]],
        context_length=report.context_length,
        problems=report.problems,
    )


def _name(value: str) -> str:
    return fields.text("model.name", value, max_length=200)


def _backends(message: models_pb2.Model) -> tuple[Backend, ...]:
    if message.backends:
        return tuple(
            _to_backend(f"model.backends[{index}]", backend)
            for index, backend in enumerate(message.backends)
        )
    return (_to_backend("model.backend", message.backend),)


def _to_backend(field: str, message: models_pb2.Backend) -> Backend:
    kind = _KINDS.get(message.engine)
    if kind is None:
        raise InvalidField(f"{field}.engine", "required: ENGINE_KIND_MOCK, _OPENAI or _VLLM")

    def text(name: str, value: str, max_length: int) -> str:
        return fields.text(f"{field}.{name}", value, max_length=max_length, required=False)

    return Backend(
        engine=kind,
        url=text("url", message.url, 2000),
        upstream_model=text("upstream_model", message.upstream_model, 500),
        api_key=text("api_key", message.api_key, 1000),
        weight=message.weight,
    )


def _from_backend(backend: Backend) -> models_pb2.Backend:
    return models_pb2.Backend(
        engine=_VALUES[backend.engine],
        url=backend.url,
        upstream_model=backend.upstream_model,
        api_key=MASK if backend.api_key else "",
        weight=backend.weight,
    )


def _display_name(message: models_pb2.Model) -> str:
    return fields.text("model.display_name", message.display_name, max_length=200, required=False)


def _kind(message: models_pb2.Model) -> ModelKind:
    if message.kind == models_pb2.MODEL_KIND_UNSPECIFIED:
        return ModelKind.CHAT
    kind = _MODEL_KINDS.get(message.kind)
    if kind is None:
        raise InvalidField("model.kind", "a value of ModelKind")
    return kind


def _organization_ids(message: models_pb2.Model) -> tuple[str, ...]:
    ids = (
        fields.uuid_text(f"model.organization_ids[{index}]", value)
        for index, value in enumerate(message.organization_ids)
    )
    return tuple(dict.fromkeys(ids))


_READ: dict[str, Callable[[models_pb2.Model], Any]] = {
    "backends": _backends,
    "display_name": _display_name,
    "kind": _kind,
    "aliases": lambda message: tuple(message.aliases),
    "prompt_price_nanos": lambda message: message.prompt_price_nanos,
    "completion_price_nanos": lambda message: message.completion_price_nanos,
    "context_length": lambda message: message.context_length,
    "max_output_tokens": lambda message: message.max_output_tokens,
    "default_max_output_tokens": lambda message: message.default_max_output_tokens,
    "default_parameters": lambda message: to_parameters(message.default_parameters),
    "organization_ids": _organization_ids,
    "allow_chat_template_kwargs": lambda message: message.allow_chat_template_kwargs,
}
"""Fields that are given, and how each is read: names here and in the domain are the same."""
_MASKABLE = (*_READ, "backend")
