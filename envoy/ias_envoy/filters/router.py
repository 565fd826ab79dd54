"""router: the last filter; sends the request to its cluster."""

from ias_envoy.model import Config
from ias_envoy.typed import extension


def http_filter() -> Config:
    """Tells services nothing of how Envoy came to them (`x-envoy-*`)."""
    return extension(
        "envoy.filters.http.router",
        "filters.http.router.v3.Router",
        {"suppress_envoy_headers": True},
    )
