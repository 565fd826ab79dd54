"""What identity knows of models: which name stands for which, and where each is served.

Inference publishes it; nothing here is a rule about models. A model that isn't known here is
sent to the cluster `inference`, which knows the registry itself.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

DEFAULT_CLUSTER = "inference"


@dataclass(frozen=True, slots=True)
class ModelRoute:
    """How one model is reached."""

    name: str
    aliases: tuple[str, ...] = ()
    organization_ids: frozenset[str] = frozenset()
    """Who may call it; empty for all."""
    cluster: str = ""
    """Where it is served; empty for DEFAULT_CLUSTER."""


class ModelRoutes:
    """The routes of all models, replaced as a whole."""

    def __init__(self) -> None:
        self._routes: dict[str, ModelRoute] = {}
        self.version = 0
        """Grows with each replacement: what was concluded from another one no longer holds."""

    def replace(self, routes: Iterable[ModelRoute]) -> None:
        """Takes over what was published."""
        self._routes = {name: route for route in routes for name in (route.name, *route.aliases)}
        self.version += 1

    def allows(self, allowed: Collection[str], asked: str) -> bool:
        """Whether a key that is restricted to these names may ask for that one.

        A key that lists a model may use its aliases as well. A key that lists an alias may use
        that name alone, and follows it to wherever it points.
        """
        if asked in allowed:
            return True
        route = self._routes.get(asked)
        return route is not None and route.name in allowed

    def cluster_of(self, asked: str, organization_id: str) -> str:
        """Where a request for that model goes.

        One that the organisation may not call goes where unknown models go, so that it can't be
        told from them.
        """
        route = self._routes.get(asked)
        if route is None or not route.cluster:
            return DEFAULT_CLUSTER
        if route.organization_ids and organization_id not in route.organization_ids:
            return DEFAULT_CLUSTER
        return route.cluster
