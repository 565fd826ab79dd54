"""How models, and what their backends say, are printed."""

from collections.abc import Sequence

from ias_sdk.ias.inference import v1 as inference

from ias_admin import values
from ias_admin.output import Column, Record, View, joined, record, thousands, time


def _state(enabled: bool) -> str:
    return "enabled" if enabled else "disabled"


def _context(tokens: int) -> str:
    return thousands(tokens) if tokens else "unknown"


def _backends(backends: Sequence[Record]) -> str:
    return "\n".join(
        f"{one['url'] or one['engine']}  weight {one['weight']}, {one['upstream_model']}"
        for one in backends
    )


VIEW = View(
    identifier="name",
    columns=(
        Column("Name", "name"),
        Column("State", "enabled", _state),
        Column("Kind", "kind"),
        Column("Engine", "backend.engine"),
        Column("URL", "backend.url"),
        Column("Backends", "backend_count", right=True),
        Column("Prompt /1000", "prompt_price", right=True),
        Column("Answer /1000", "completion_price", right=True),
        Column("Context", "context_length", _context, right=True),
    ),
    details=(
        Column("Display name", "display_name"),
        Column("Aliases", "aliases", joined),
        Column("All backends", "backends", _backends),
        Column("Output at most", "max_output_tokens", thousands),
        Column(
            "Output unless asked", "default_max_output_tokens", lambda n: thousands(n) if n else "-"
        ),
        Column("Default parameters", "default_parameters"),
        Column("Organisations", "organizations", joined),
        Column(
            "Template arguments", "allow_chat_template_kwargs", lambda on: "yes" if on else "no"
        ),
        Column("Created", "create_time", time),
        Column("Changed", "update_time", time),
    ),
    fields=(
        "name",
        "display_name",
        "enabled",
        "kind",
        "aliases",
        "backend.engine",
        "backend.url",
        "backend.upstream_model",
        "backend_count",
        "prompt_price",
        "completion_price",
        "context_length",
        "max_output_tokens",
        "default_max_output_tokens",
        "default_parameters",
        "organization_ids",
        "create_time",
        "update_time",
    ),
)

CHECK_VIEW = View(
    identifier="url",
    columns=(
        Column("URL", "url"),
        Column("Reachable", "reachable", lambda yes: "yes" if yes else "no"),
        Column("Latency", "latency_ms", lambda ms: f"{ms:.1f} ms" if ms else "-", right=True),
        Column("Serves", "served_models", joined),
        Column("Context", "context_length", _context, right=True),
        Column("Problems", "problems", lambda all_: " ".join(all_)),
    ),
    fields=(
        "url",
        "reachable",
        "latency_ms",
        "upstream_model",
        "served_models",
        "context_length",
        "problems",
    ),
)


def row(model: inference.Model) -> Record:
    """With prices as decimals beside the exact numbers."""
    return record(model) | {
        "backend_count": len(model.backends),
        "prompt_price": values.money(model.prompt_price_nanos),
        "completion_price": values.money(model.completion_price_nanos),
        "organizations": model.organization_ids or ["all"],
    }
