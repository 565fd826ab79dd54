"""EngineService: tells other processes of IAS what this one serves, and tells nobody else."""

from ias.inference.v1 import engine_pb2 as pb

from ias_inference.domain.engines import Adapter
from ias_runtime.rpc import Call


class EngineApi:
    """Serves ias.inference.v1.EngineService."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    async def GetServedModels(
        self, _: pb.GetServedModelsRequest, __: Call
    ) -> pb.GetServedModelsResponse:
        """Tells the models that the engine of this process serves."""
        served = self._adapter.served()
        if served is None:
            return pb.GetServedModelsResponse(any_name=True)
        return pb.GetServedModelsResponse(
            models=[
                pb.ServedModel(name=one.name, context_length=one.context_length) for one in served
            ]
        )
