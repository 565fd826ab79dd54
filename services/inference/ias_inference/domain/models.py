"""Models: what can be called, and the rules for changing that."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from ias_inference.domain.errors import ModelNotFound
from ias_runtime.caller import Caller
from ias_runtime.errors import InvalidField, NotFound

DEFAULT_MAX_OUTPUT_TOKENS = 4096
MAX_TOKENS = 2**31 - 1
MAX_PRICE_NANOS = 10**15
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-/:]{0,199}")


class EngineKind(StrEnum):
    """What answers for a model; see ias.inference.v1.EngineKind."""

    MOCK = "mock"
    OPENAI = "openai"
    VLLM = "vllm"


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a model's requests go."""

    engine: EngineKind
    url: str = ""
    upstream_model: str = ""
    """What the server calls the model; never empty in a stored model."""
    api_key: str = ""
    """The server's own key. A secret: in no log, no error, no audit entry."""

    def __repr__(self) -> str:
        return f"Backend({self.engine.value}, {self.url!r}, {self.upstream_model!r})"


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the registry."""

    name: str
    backend: Backend
    display_name: str = ""
    prompt_price_nanos: int = 0
    """Price of 1 000 prompt tokens, in 10⁻⁹ units."""
    completion_price_nanos: int = 0
    context_length: int = 0
    """Tokens that prompt and answer may have together; 0 for unknown."""
    max_output_tokens: int = DEFAULT_MAX_OUTPUT_TOKENS
    enabled: bool = True
    create_time: datetime | None = None
    """Set by the store; None before."""
    update_time: datetime | None = None

    def snapshot(self) -> dict[str, object]:
        """The model as the audit log shows it: without the backend's key."""
        return {
            "name": self.name,
            "display_name": self.display_name,
            "engine": self.backend.engine.value,
            "url": self.backend.url,
            "upstream_model": self.backend.upstream_model,
            "has_api_key": bool(self.backend.api_key),
            "prompt_price_nanos": self.prompt_price_nanos,
            "completion_price_nanos": self.completion_price_nanos,
            "context_length": self.context_length,
            "max_output_tokens": self.max_output_tokens,
            "enabled": self.enabled,
        }


class Registry:
    """The registry in memory: what requests read. Kept fresh by an adapter, in every process."""

    def __init__(self) -> None:
        self._enabled: dict[str, Model] = {}
        self._sorted: tuple[Model, ...] = ()

    def replace(self, models: Iterable[Model]) -> None:
        """Takes over what is stored. An unchanged model stays the same object."""
        before = self._enabled
        enabled = {}
        for model in models:
            if model.enabled:
                known = before.get(model.name)
                enabled[model.name] = known if known == model else model
        self._enabled = enabled
        self._sorted = tuple(enabled[name] for name in sorted(enabled))

    def enabled(self) -> tuple[Model, ...]:
        """All that can be called, by name."""
        return self._sorted

    def get(self, name: str) -> Model:
        """The model of that name. Raises ModelNotFound for an unknown or disabled one."""
        model = self._enabled.get(name)
        if model is None:
            raise ModelNotFound(name)
        return model


class ModelStore(Protocol):
    """Where the registry is kept. Every change is audited in its own transaction."""

    async def create(self, caller: Caller, model: Model) -> Model:
        """Stores a new model. Raises AlreadyExists when the name is taken."""
        ...

    async def get(self, name: str) -> Model | None:
        """The model; None when there is none of that name."""
        ...

    async def page(self, after: str, size: int) -> list[Model]:
        """The models whose names follow `after`, `size` at most, in the order of the names."""
        ...

    async def set_enabled(self, caller: Caller, name: str, enabled: bool) -> Model | None:
        """The model, changed if it was otherwise; None when there is none of that name."""
        ...


class BackendCheck(Protocol):
    """What an engine says of a backend before it is registered."""

    def check(self, backend: Backend) -> None:
        """Raises InvalidField when the engine could not serve it."""
        ...


class Models:
    """The rules for changing the registry."""

    def __init__(self, store: ModelStore, engines: Mapping[EngineKind, BackendCheck]) -> None:
        self._store = store
        self._engines = engines

    async def create(self, caller: Caller, model: Model) -> Model:
        """Registers a model, enabled. Raises InvalidField, AlreadyExists."""
        if not _NAME.fullmatch(model.name):
            raise InvalidField(
                "model.name",
                "1 to 200 letters, digits and ._-/:, beginning with a letter or digit",
            )
        for field, value, maximum in (
            ("prompt_price_nanos", model.prompt_price_nanos, MAX_PRICE_NANOS),
            ("completion_price_nanos", model.completion_price_nanos, MAX_PRICE_NANOS),
            ("context_length", model.context_length, MAX_TOKENS),
            ("max_output_tokens", model.max_output_tokens, MAX_TOKENS),
        ):
            if not 0 <= value <= maximum:
                raise InvalidField(f"model.{field}", f"must be 0 to {maximum}, got {value}")
        self._engines[model.backend.engine].check(model.backend)
        backend = replace(model.backend, upstream_model=model.backend.upstream_model or model.name)
        return await self._store.create(
            caller,
            replace(
                model,
                backend=backend,
                display_name=model.display_name or model.name,
                max_output_tokens=model.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS,
                enabled=True,
            ),
        )

    async def get(self, name: str) -> Model:
        """One model, enabled or not. Raises NotFound."""
        return _found(await self._store.get(name), name)

    async def page(self, after: str, size: int) -> tuple[list[Model], str]:
        """Models whose names follow `after`, and where the next page begins (empty: nowhere)."""
        found = await self._store.page(after, size + 1)
        more = len(found) > size
        return found[:size], found[size - 1].name if more else ""

    async def set_enabled(self, caller: Caller, name: str, enabled: bool) -> Model:
        """Lets a model be called, or stops it. Raises NotFound."""
        return _found(await self._store.set_enabled(caller, name, enabled), name)


def _found(model: Model | None, name: str) -> Model:
    if model is None:
        raise NotFound("model", name)
    return model
