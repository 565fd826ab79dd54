"""Envoy's extensions are messages inside `Any`: a name and a typed configuration."""

from ias_envoy.model import Config

_PREFIX = "type.googleapis.com/"


def message(type_name: str, fields: Config | None = None) -> Config:
    """A configuration message, `envoy.extensions.` understood before a name that needs it."""
    full_name = type_name if type_name.startswith("envoy.") else f"envoy.extensions.{type_name}"
    return {"@type": _PREFIX + full_name, **(fields or {})}


def extension(name: str, type_name: str, fields: Config | None = None) -> Config:
    """A named extension with its configuration."""
    return {"name": name, "typed_config": message(type_name, fields)}


def enabled() -> Config:
    """For a route's per-filter configuration: switches on a filter that is off by default."""
    return message("envoy.config.route.v3.FilterConfig", {"config": {}})


def disabled() -> Config:
    """For a route's per-filter configuration: switches off a filter that is on by default."""
    return message("envoy.config.route.v3.FilterConfig", {"disabled": True})


def seconds(value: float) -> str:
    """A protobuf duration in JSON form."""
    return f"{value:g}s"
