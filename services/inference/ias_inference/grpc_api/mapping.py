"""Between the contract of the registry and the domain."""

from ias.inference.v1 import models_pb2

from ias_inference.domain.models import Backend, EngineKind, Model
from ias_runtime import fields
from ias_runtime.errors import InvalidField

MASK = "********"
"""Shown in place of a secret."""
_KINDS = {
    models_pb2.ENGINE_KIND_MOCK: EngineKind.MOCK,
    models_pb2.ENGINE_KIND_OPENAI: EngineKind.OPENAI,
}
_VALUES = {kind: value for value, kind in _KINDS.items()}


def to_model(message: models_pb2.Model) -> Model:
    """The model asked for. Raises InvalidField naming the field."""
    kind = _KINDS.get(message.backend.engine)
    if kind is None:
        raise InvalidField("model.backend.engine", "required: ENGINE_KIND_MOCK or _OPENAI")
    backend = message.backend
    return Model(
        name=fields.text("model.name", message.name, max_length=200),
        display_name=fields.text(
            "model.display_name", message.display_name, max_length=200, required=False
        ),
        backend=Backend(
            engine=kind,
            url=fields.text("model.backend.url", backend.url, max_length=2000, required=False),
            upstream_model=fields.text(
                "model.backend.upstream_model",
                backend.upstream_model,
                max_length=500,
                required=False,
            ),
            api_key=fields.text(
                "model.backend.api_key", backend.api_key, max_length=1000, required=False
            ),
        ),
        prompt_price_nanos=message.prompt_price_nanos,
        completion_price_nanos=message.completion_price_nanos,
        context_length=message.context_length,
        max_output_tokens=message.max_output_tokens,
    )


def from_model(model: Model) -> models_pb2.Model:
    """The model as shown: without its backend's key."""
    return models_pb2.Model(
        name=model.name,
        display_name=model.display_name,
        backend=models_pb2.Backend(
            engine=_VALUES[model.backend.engine],
            url=model.backend.url,
            upstream_model=model.backend.upstream_model,
            api_key=MASK if model.backend.api_key else "",
        ),
        prompt_price_nanos=model.prompt_price_nanos,
        completion_price_nanos=model.completion_price_nanos,
        context_length=model.context_length,
        max_output_tokens=model.max_output_tokens,
        enabled=model.enabled,
        create_time=fields.to_timestamp(model.create_time),
        update_time=fields.to_timestamp(model.update_time),
    )
