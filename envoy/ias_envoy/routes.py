"""Routes: every public path has a real one, because ext_authz doesn't check a request without.

Envoy decides once, on the path that the client sent, and keeps to it (the transcoder's
`match_incoming_request_route`): what wasn't matched here can't be rewritten into a match later.
"""

from ias_envoy.contract import PublicService, RestRule, public_services
from ias_envoy.filters import cors, ext_authz, json_to_metadata, lua, transcoder
from ias_envoy.model import Config, Edge
from ias_envoy.typed import seconds

ROUTES = "ias"
"""Name of the route configuration."""
UPSTREAM_HEADER = "x-ias-upstream"
"""Set by identity: the cluster that serves the model."""

_INFRASTRUCTURE_CLUSTER = "identity"


def route_configuration(edge: Edge) -> Config:
    """The whole route table. Raises OSError when the descriptors can't be read."""
    services = public_services(edge.descriptors)
    return {
        "name": ROUTES,
        "virtual_hosts": [
            {
                "name": "all",
                "domains": ["*"],
                "request_body_buffer_limit": edge.max_body_bytes,
                "typed_per_filter_config": cors.per_host(edge),
                "routes": [
                    *_rest_routes(edge, services),
                    *(_service_route(edge, service) for service in services),
                    *_infrastructure_routes(edge),
                    _unknown(),
                ],
            }
        ],
    }


def _rest_routes(edge: Edge, services: list[PublicService]) -> list[Config]:
    found = {
        _path_match(rule): (rule, service) for service in services for rule in service.rest
    }.values()
    ordered = sorted(found, key=lambda pair: _rest_order(*pair))
    return [_rest_route(edge, rule, service) for rule, service in ordered]


def _rest_order(rule: RestRule, service: PublicService) -> tuple[bool, bool, bool, str]:
    # Exact before patterns, bounded patterns before open ones; the hot path first of all.
    return (
        not rule.is_exact,
        "**" in rule.template,
        service.cluster is not None,
        rule.template,
    )


def _path_match(rule: RestRule) -> tuple[str, str]:
    return ("path", rule.template) if rule.is_exact else ("regex", rule.regex())


def _rest_route(edge: Edge, rule: RestRule, service: PublicService) -> Config:
    kind, text = _path_match(rule)
    match: Config = {"path": text} if kind == "path" else {"safe_regex": {"regex": text}}
    per_filter = lua.per_route(service)
    if service.cluster is None:
        per_filter |= json_to_metadata.per_route()
    return {
        "name": f"{service.name} {rule.template}",
        "match": match,
        "route": _action(edge, service.cluster),
        "typed_per_filter_config": per_filter,
    }


def _service_route(edge: Edge, service: PublicService) -> Config:
    return {
        "name": service.name,
        "match": {"prefix": f"/{service.name}/"},
        "route": _action(edge, service.cluster),
        "response_headers_to_remove": [lua.STATUS_HEADER],
    }


def _infrastructure_routes(edge: Edge) -> list[Config]:
    open_to_all = ext_authz.per_route_disabled()
    return [
        {
            "name": "reflection",
            "match": {"prefix": "/grpc.reflection."},
            "route": _action(edge, _INFRASTRUCTURE_CLUSTER),
        },
        {
            "name": "health",
            "match": {"prefix": "/grpc.health.v1.Health/"},
            "route": _action(edge, _INFRASTRUCTURE_CLUSTER),
            "typed_per_filter_config": open_to_all,
        },
        {
            "name": "liveness",
            "match": {"path": "/healthz"},
            "direct_response": {"status": 200, "body": {"inline_string": "ok\n"}},
            "typed_per_filter_config": open_to_all | transcoder.per_route_disabled(),
        },
    ]


def _unknown() -> Config:
    return {"name": "unknown", "match": {"prefix": "/"}, "direct_response": {"status": 404}}


def _action(edge: Edge, cluster: str | None) -> Config:
    target: Config = (
        {"cluster_header": UPSTREAM_HEADER} if cluster is None else {"cluster": cluster}
    )
    return {
        **target,
        "timeout": "0s",
        "idle_timeout": seconds(edge.stream_idle_s),
        # Only what certainly reached no handler is sent again.
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream",
            "num_retries": 2,
            "retry_back_off": {"base_interval": "0.01s", "max_interval": "0.1s"},
        },
    }
