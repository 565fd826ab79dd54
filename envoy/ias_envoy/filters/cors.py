"""CORS: pages of the allowed origins may call, over REST and gRPC-Web."""

from ias_envoy.model import Config, Edge
from ias_envoy.typed import extension, message

NAME = "envoy.filters.http.cors"

_ALLOWED = (
    "authorization",
    "content-type",
    "grpc-timeout",
    "idempotency-key",
    "openai-beta",
    "openai-organization",
    "openai-project",
    "x-grpc-web",
    "x-user-agent",
    # What OpenAI's own client sends from a browser.
    "x-stainless-arch",
    "x-stainless-helper-method",
    "x-stainless-lang",
    "x-stainless-os",
    "x-stainless-package-version",
    "x-stainless-retry-count",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
    "x-stainless-timeout",
)
_EXPOSED = (
    "grpc-message",
    "grpc-status",
    "grpc-status-details-bin",
    "openai-processing-ms",
    "retry-after",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-request-id",
    "x-should-retry",
)


def http_filter() -> Config:
    """Answers preflights, before anything asks for a key."""
    return extension(NAME, "filters.http.cors.v3.Cors")


def per_host(edge: Edge) -> Config:
    """The policy of all routes. Without origins no page elsewhere may read an answer."""
    return {
        NAME: message(
            "filters.http.cors.v3.CorsPolicy",
            {
                "allow_origin_string_match": [{"exact": origin} for origin in edge.cors_origins],
                "allow_methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS",
                "allow_headers": ", ".join(_ALLOWED),
                "expose_headers": ", ".join(_EXPOSED),
                "max_age": "600",
            },
        )
    }
