"""Lua: the last touch on REST answers, where Envoy has no filter of its own.

`header_mutation` can't set `:status`, and `custom_response` drops headers. Native gRPC and
gRPC-Web never meet it: the filter is off unless a REST route switches it on.
"""

from importlib import resources

from ias_envoy.contract import PublicService
from ias_envoy.model import Config
from ias_envoy.typed import extension, message

NAME = "envoy.filters.http.lua"
STATUS_HEADER = "x-ias-http-status"
"""Set by a service as initial metadata: the status that the client is to see."""

_SCRIPTS = ("openai", "management")


def http_filter() -> Config:
    """Holds the scripts; does nothing by itself."""
    sources: Config = {name: {"inline_string": _source(name)} for name in _SCRIPTS}
    fields: Config = {"source_codes": sources}
    return {**extension(NAME, "filters.http.lua.v3.Lua", fields), "disabled": True}


def per_route(service: PublicService) -> Config:
    """The script for a REST route of a service: OpenAI's errors where models are called."""
    script = "openai" if service.cluster is None else "management"
    return {NAME: message("filters.http.lua.v3.LuaPerRoute", {"name": script})}


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
