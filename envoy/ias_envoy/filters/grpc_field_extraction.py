"""grpc_field_extraction: the model of a native gRPC request, as metadata that identity sees."""

from ias_envoy.contract import PublicService
from ias_envoy.model import Config, Edge
from ias_envoy.typed import extension

NAME = "envoy.filters.http.grpc_field_extraction"
"""Also the namespace of the metadata; the value arrives as a list."""


def http_filter(edge: Edge, services: list[PublicService]) -> Config:
    """Reads `model` from every request message that has it and calls a model."""
    methods: Config = {
        f"{service.name}.{method}": {"request_field_extractions": {"model": {}}}
        for service in services
        for method in service.model_methods
    }
    return extension(
        NAME,
        "filters.http.grpc_field_extraction.v3.GrpcFieldExtractionConfig",
        {
            "descriptor_set": {"filename": str(edge.descriptors)},
            "extractions_by_method": methods,
        },
    )
