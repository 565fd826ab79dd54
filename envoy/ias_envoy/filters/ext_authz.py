"""ext_authz: identity says who calls, whether they may, and which cluster serves them."""

from ias_envoy.filters import grpc_field_extraction, json_to_metadata
from ias_envoy.model import Config, Edge
from ias_envoy.typed import extension, message, seconds

NAME = "envoy.filters.http.ext_authz"

_SHOWN = ("authorization", "content-type", "user-agent", "x-forwarded-for", "x-request-id")


def http_filter(edge: Edge) -> Config:
    """Before the transcoder: what isn't allowed is never parsed further."""
    return extension(
        NAME,
        "filters.http.ext_authz.v3.ExtAuthz",
        {
            "transport_api_version": "V3",
            "stat_prefix": "ias",
            "grpc_service": {
                "envoy_grpc": {"cluster_name": "identity"},
                "timeout": seconds(edge.authz_timeout_s),
            },
            "failure_mode_allow": False,
            "status_on_error": {"code": 503},
            "validate_mutations": True,
            # The route was found before identity named the cluster.
            "clear_route_cache": True,
            "metadata_context_namespaces": [
                json_to_metadata.NAMESPACE,
                grpc_field_extraction.NAME,
            ],
            "allowed_headers": {
                "patterns": [{"exact": name, "ignore_case": True} for name in _SHOWN]
            },
        },
    )


def per_route_disabled() -> Config:
    """For the few routes that expose nothing."""
    return {NAME: message("filters.http.ext_authz.v3.ExtAuthzPerRoute", {"disabled": True})}
