"""Shows callers which models they may use."""

from ias.inference.v1 import catalog_pb2 as pb

from ias_inference.domain.errors import InvalidRequest, ModelNotFound
from ias_inference.domain.models import Model, Registry
from ias_runtime import fields
from ias_runtime.caller import Caller
from ias_runtime.rpc import Call


class CatalogApi:
    """Serves ias.inference.v1.CatalogService."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def ListAvailableModels(
        self, request: pb.ListAvailableModelsRequest, call: Call
    ) -> pb.ListAvailableModelsResponse:
        """Lists the models that the caller may use, by name."""
        size, after = fields.page_size(request.page_size), fields.page_token(request.page_token)
        visible = sorted(self._visible(call.verified), key=lambda model: model.name)
        found = [model for model in visible if model.name > after]
        following = found[size - 1].name if len(found) > size else ""
        return pb.ListAvailableModelsResponse(
            models=[_shown(model) for model in found[:size]],
            next_page_token=fields.to_page_token(following),
        )

    async def GetAvailableModel(
        self, request: pb.GetAvailableModelRequest, call: Call
    ) -> pb.GetAvailableModelResponse:
        """Shows one model that the caller may use."""
        if not request.model:
            raise InvalidRequest("model", "model: required")
        for model in self._visible(call.verified):
            if model.name == request.model:
                return pb.GetAvailableModelResponse(model=_shown(model))
        raise ModelNotFound(request.model)

    def _visible(self, caller: Caller) -> list[Model]:
        return self._registry.visible(caller.organization_id, caller.allowed_models)


def _shown(model: Model) -> pb.AvailableModel:
    return pb.AvailableModel(
        name=model.name,
        display_name=model.display_name,
        context_length=model.context_length,
        max_output_tokens=model.max_output_tokens,
        prompt_price_nanos=model.prompt_price_nanos,
        completion_price_nanos=model.completion_price_nanos,
        create_time=fields.to_timestamp(model.create_time),
    )
