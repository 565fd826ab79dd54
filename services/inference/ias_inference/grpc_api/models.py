"""Manages the registry of models."""

from ias.inference.v1 import models_pb2 as pb

from ias_inference.domain.model_management import Models
from ias_inference.grpc_api.mapping import from_model, from_report, to_changes, to_model
from ias_runtime import fields
from ias_runtime.rpc import Call


class ModelsApi:
    """Serves ias.inference.v1.ModelService."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def CreateModel(
        self, request: pb.CreateModelRequest, call: Call
    ) -> pb.CreateModelResponse:
        """Registers a model, enabled."""
        model = await self._models.create(call.caller, to_model(request.model))
        return pb.CreateModelResponse(model=from_model(model))

    async def GetModel(self, request: pb.GetModelRequest, _: Call) -> pb.GetModelResponse:
        """Shows one model."""
        return pb.GetModelResponse(model=from_model(await self._models.get(request.name)))

    async def ListModels(self, request: pb.ListModelsRequest, _: Call) -> pb.ListModelsResponse:
        """Lists the registry, by name."""
        found, following = await self._models.page(
            fields.page_token(request.page_token), fields.page_size(request.page_size)
        )
        return pb.ListModelsResponse(
            models=[from_model(model) for model in found],
            next_page_token=fields.to_page_token(following),
        )

    async def UpdateModel(
        self, request: pb.UpdateModelRequest, call: Call
    ) -> pb.UpdateModelResponse:
        """Changes the fields that the mask names."""
        changes = to_changes(request.model, request.update_mask.paths)
        model = await self._models.update(call.caller, request.model.name, changes)
        return pb.UpdateModelResponse(model=from_model(model))

    async def DeleteModel(
        self, request: pb.DeleteModelRequest, call: Call
    ) -> pb.DeleteModelResponse:
        """Removes a model."""
        await self._models.delete(call.caller, request.name)
        return pb.DeleteModelResponse()

    async def CheckModel(self, request: pb.CheckModelRequest, _: Call) -> pb.CheckModelResponse:
        """Asks each backend what it serves."""
        model, reports = await self._models.check(request.name)
        return pb.CheckModelResponse(name=model.name, backends=map(from_report, reports))

    async def EnableModel(
        self, request: pb.EnableModelRequest, call: Call
    ) -> pb.EnableModelResponse:
        """Lets a model be called."""
        model = await self._models.set_enabled(call.caller, request.name, True)
        return pb.EnableModelResponse(model=from_model(model))

    async def DisableModel(
        self, request: pb.DisableModelRequest, call: Call
    ) -> pb.DisableModelResponse:
        """Stops a model from being called."""
        model = await self._models.set_enabled(call.caller, request.name, False)
        return pb.DisableModelResponse(model=from_model(model))
