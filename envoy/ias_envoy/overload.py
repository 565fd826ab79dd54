"""The overload manager: Envoy sheds load before the kernel kills it."""

from ias_envoy.model import Config, Edge
from ias_envoy.typed import extension

_HEAP = "envoy.resource_monitors.fixed_heap"
_CONNECTIONS = "envoy.resource_monitors.global_downstream_max_connections"


def overload_manager(edge: Edge) -> Config:
    """Bounds of heap and connections, and what happens near them."""
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            extension(
                _HEAP,
                "resource_monitors.fixed_heap.v3.FixedHeapConfig",
                {"max_heap_size_bytes": edge.max_heap_bytes},
            ),
            extension(
                _CONNECTIONS,
                "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                {"max_active_downstream_connections": edge.max_connections},
            ),
        ],
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 20},
        "actions": [
            _action("envoy.overload_actions.shrink_heap", {"threshold": {"value": 0.85}}),
            _action(
                "envoy.overload_actions.reset_high_memory_stream",
                {"scaled": {"scaling_threshold": 0.9, "saturation_threshold": 0.98}},
            ),
            _action(
                "envoy.overload_actions.stop_accepting_requests", {"threshold": {"value": 0.95}}
            ),
        ],
    }


def _action(name: str, trigger: Config) -> Config:
    return {"name": name, "triggers": [{"name": _HEAP, **trigger}]}
