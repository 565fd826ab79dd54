"""Models: what can be called, and the registry of them in memory."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from ias_inference.domain.errors import ModelNotFound

DEFAULT_MAX_OUTPUT_TOKENS = 4096
CLUSTER = "inference"
"""The cluster of the processes that serve every model without adapters of its own."""


class EngineKind(StrEnum):
    """What answers for a model; see ias.inference.v1.EngineKind."""

    MOCK = "mock"
    OPENAI = "openai"
    VLLM = "vllm"

    # Looked up for each request; Enum's own hash is a call into Python.
    __hash__ = str.__hash__


class ModelKind(StrEnum):
    """What a model is made for; see ias.inference.v1.ModelKind."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    RERANK = "rerank"


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a model's requests go."""

    engine: EngineKind
    url: str = ""
    upstream_model: str = ""
    """What the server calls the model; never empty in a stored model."""
    api_key: str = ""
    """The server's own key. A secret: in no log, no error, no audit entry."""
    weight: int = 1
    """Its share of the requests beside the model's other backends."""

    def __repr__(self) -> str:
        return f"Backend({self.engine.value}, {self.url!r}, {self.upstream_model!r})"

    @property
    def address(self) -> str:
        """host:port of an adapter process."""
        return self.url.removeprefix("grpc://")

    def snapshot(self) -> dict[str, object]:
        """As the audit log shows it."""
        return {
            "engine": self.engine.value,
            "url": self.url,
            "upstream_model": self.upstream_model,
            "has_api_key": bool(self.api_key),
            "weight": self.weight,
        }


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the registry."""

    name: str
    """As clients ask for it."""
    backends: tuple[Backend, ...]
    """One or more, all of the same engine."""
    display_name: str = ""
    kind: ModelKind = ModelKind.CHAT
    aliases: tuple[str, ...] = ()
    prompt_price_nanos: int = 0
    """Price of 1 000 prompt tokens, in 10⁻⁹ units."""
    completion_price_nanos: int = 0
    context_length: int = 0
    """Tokens that prompt and answer may have together; 0 for unknown."""
    max_output_tokens: int = DEFAULT_MAX_OUTPUT_TOKENS
    default_max_output_tokens: int = 0
    """When the request doesn't say; 0 for max_output_tokens. Text completions always say: 16."""
    default_parameters: Mapping[str, object] = field(default_factory=dict)
    """Sampling fields for requests that have none of their own."""
    organization_ids: tuple[str, ...] = ()
    """Who may call it; empty for all."""
    allow_chat_template_kwargs: bool = False
    enabled: bool = True
    create_time: datetime | None = None
    """Set by the store; None before."""
    update_time: datetime | None = None
    alias_of: str = ""
    """The registered name, when this is the model under an alias: what is shown to clients is
    `name`, what is charged and counted is `real_name`."""

    @property
    def real_name(self) -> str:
        """The name by which it is registered."""
        return self.alias_of or self.name

    @property
    def backend(self) -> Backend:
        """The first backend, and the only one of most models."""
        return self.backends[0]

    @property
    def engine(self) -> EngineKind:
        """What answers."""
        return self.backends[0].engine

    @property
    def names(self) -> tuple[str, ...]:
        """All that it answers to."""
        return (self.name, *self.aliases)

    @property
    def unasked_output_tokens(self) -> int:
        """Tokens of an answer at most, when the request doesn't say."""
        return self.default_max_output_tokens or self.max_output_tokens

    @property
    def cluster(self) -> str:
        """Where Envoy sends its requests."""
        return f"model:{self.real_name}" if self.engine is EngineKind.VLLM else CLUSTER

    def is_for(self, organization_id: str) -> bool:
        """Whether that organisation may call it."""
        return not self.organization_ids or organization_id in self.organization_ids

    def is_among(self, allowed: Collection[str]) -> bool:
        """Whether a key that is restricted to these names, if any, may call it by this one.

        A key that lists a model may use its aliases; one that lists an alias, that name alone.
        """
        return not allowed or self.name in allowed or self.real_name in allowed

    def snapshot(self) -> dict[str, object]:
        """The model as the audit log shows it: without its backends' keys."""
        return {
            "name": self.name,
            "display_name": self.display_name,
            "kind": self.kind.value,
            "aliases": list(self.aliases),
            "backends": [backend.snapshot() for backend in self.backends],
            "prompt_price_nanos": self.prompt_price_nanos,
            "completion_price_nanos": self.completion_price_nanos,
            "context_length": self.context_length,
            "max_output_tokens": self.max_output_tokens,
            "default_max_output_tokens": self.default_max_output_tokens,
            "default_parameters": dict(self.default_parameters),
            "organization_ids": list(self.organization_ids),
            "allow_chat_template_kwargs": self.allow_chat_template_kwargs,
            "enabled": self.enabled,
        }


class Registry:
    """The registry in memory: what requests read. Kept fresh by an adapter, in every process."""

    def __init__(self) -> None:
        self._named: dict[str, Model] = {}
        """Every enabled model by its name, and as seen under each alias."""
        self._views: tuple[Model, ...] = ()
        """The same, by name."""
        self._sorted: tuple[Model, ...] = ()
        self._listeners: list[Callable[[], None]] = []
        self.id = ""
        """Which registry it is a copy of."""
        self.version = 0
        """The version of that copy."""

    def replace(self, models: Iterable[Model], *, identifier: str = "", version: int = 0) -> None:
        """Takes over what is stored. An unchanged model stays the same object, alias by alias."""
        before = self._named
        enabled: dict[str, Model] = {}
        named: dict[str, Model] = {}
        for stored in models:
            if stored.enabled:
                known = before.get(stored.name)
                same = known is not None and known == stored
                model = known if known is not None and same else stored
                enabled[model.name] = named[model.name] = model
                for alias in model.aliases:
                    named[alias] = (
                        before[alias] if same else replace(model, name=alias, alias_of=model.name)
                    )
        self._named = named
        self._views = tuple(named[name] for name in sorted(named))
        self._sorted = tuple(enabled[name] for name in sorted(enabled))
        self.id, self.version = identifier, version
        for listener in self._listeners:
            listener()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Calls `listener` after each change; it must neither fail nor take long."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[], None]) -> None:
        """Calls it no more."""
        self._listeners.remove(listener)

    def enabled(self) -> tuple[Model, ...]:
        """All that can be called, by name."""
        return self._sorted

    def visible(self, organization_id: str, allowed: Collection[str]) -> list[Model]:
        """What a key may call, by name: each model as seen under each of its names.

        `allowed` are the names that the key is restricted to, if any.
        """
        return [
            model
            for model in self._views
            if model.is_for(organization_id) and model.is_among(allowed)
        ]

    def get(self, name: str, organization_id: str = "", allowed: Collection[str] = ()) -> Model:
        """The model of that name or alias.

        Raises ModelNotFound for one that is unknown, disabled, not for that organisation, or not
        among those that a key is restricted to.
        """
        model = self._named.get(name)
        if model is None or not model.is_for(organization_id) or not model.is_among(allowed):
            raise ModelNotFound(name)
        return model
