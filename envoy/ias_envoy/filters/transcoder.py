"""grpc_json_transcoder: HTTP/JSON into gRPC and back, by the contracts' google.api.http."""

from ias_envoy.contract import PublicService
from ias_envoy.model import Config, Edge
from ias_envoy.typed import disabled, extension

NAME = "envoy.filters.http.grpc_json_transcoder"


def http_filter(edge: Edge, services: list[PublicService]) -> Config:
    """For every public service that has an HTTP form."""
    return extension(
        NAME,
        "filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        {
            "proto_descriptor": str(edge.descriptors),
            "services": [service.name for service in services if service.rest],
            # The route stays the one on which ext_authz ran: see routes.py.
            "match_incoming_request_route": True,
            "auto_mapping": False,
            # Without it, a stream that fails after its initial metadata is a 200 without a body.
            "convert_grpc_status": True,
            "request_validation_options": {"reject_unknown_method": True},
            # OpenAI's clients add `?api-version=…` and the like.
            "ignore_unknown_query_parameters": True,
            # A model's name may hold a slash, which clients send as %2F.
            "url_unescape_spec": "ALL_CHARACTERS",
            "query_param_unescape_plus": True,
            "max_request_body_size": edge.max_body_bytes,
            "max_response_body_size": edge.max_body_bytes,
            "print_options": {
                "always_print_primitive_fields": True,
                "preserve_proto_field_names": True,
            },
        },
    )


def per_route_disabled() -> Config:
    """For a route that Envoy answers itself; the transcoder would call its path unknown."""
    return {NAME: disabled()}
