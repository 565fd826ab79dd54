"""json_to_metadata: the model of a JSON body, as metadata that identity sees.

The body is held until it is complete, up to the largest allowed one, so the filter is off unless
a route whose requests name a model switches it on.
"""

from ias_envoy.model import Config
from ias_envoy.typed import enabled, extension

NAME = "envoy.filters.http.json_to_metadata"
NAMESPACE = "ias.req"
"""Of the metadata; its key is `model`."""


def http_filter() -> Config:
    """Reads `model`. A body that is no JSON passes; inference refuses it."""
    fields: Config = {
        "request_rules": {
            "rules": [
                {
                    "selectors": [{"key": "model"}],
                    "on_present": {
                        "metadata_namespace": NAMESPACE,
                        "key": "model",
                        "type": "STRING",
                    },
                }
            ],
            # A list of exact types would miss `application/json; charset=utf-8`.
            "allow_content_types_regex": {"regex": r"(?i)application/json\s*(;.*)?"},
        }
    }
    return {
        **extension(NAME, "filters.http.json_to_metadata.v3.JsonToMetadata", fields),
        "disabled": True,
    }


def per_route() -> Config:
    """Switches the filter on."""
    return {NAME: enabled()}
