"""The rules for changing the registry of models."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ias_inference.domain.engines import Served
from ias_inference.domain.models import DEFAULT_MAX_OUTPUT_TOKENS, Backend, EngineKind, Model
from ias_runtime.caller import Caller
from ias_runtime.errors import InvalidField, NotFound

MAX_TOKENS = 2**31 - 1
MAX_PRICE_NANOS = 10**15
MAX_BACKENDS = 32
MAX_WEIGHT = 1000
MAX_ALIASES = 32
MAX_ORGANIZATIONS = 1000
MASK = "********"
"""Stands for a backend's key: shown in its place, and in an update for the key that is stored."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-/:]{0,199}")
_NAME_RULE = "1 to 200 letters, digits and ._-/:, beginning with a letter or digit"


class ModelStore(Protocol):
    """Where the registry is kept. Every change is audited in its own transaction.

    Wherever a name is asked for, an alias stands for its model.
    """

    async def create(self, caller: Caller, model: Model) -> Model:
        """Stores a new model. Raises AlreadyExists when its name or an alias is taken."""
        ...

    async def get(self, name: str) -> Model | None:
        """The model; None when there is none of that name."""
        ...

    async def page(self, after: str, size: int) -> list[Model]:
        """The models whose names follow `after`, `size` at most, in the order of the names."""
        ...

    async def update(
        self, caller: Caller, name: str, action: str, change: Callable[[Model], Model]
    ) -> Model | None:
        """Stores what `change` makes of the model; None when there is none of that name.

        Nothing is stored, nor audited, when it makes the same. Whatever `change` raises leaves all
        as it was. Raises AlreadyExists when an alias is taken.
        """
        ...

    async def delete(self, caller: Caller, name: str) -> bool:
        """Removes the model; False when there is none of that name."""
        ...


class BackendRules(Protocol):
    """What an engine says of a backend before it is registered."""

    def check(self, backend: Backend) -> None:
        """Raises InvalidField, naming a field of `model.backend`, when it can't be served."""
        ...


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of asking a backend."""

    reachable: bool
    latency_ms: float = 0.0
    served: tuple[Served, ...] | None = None
    """None when it doesn't say what it serves."""
    problem: str = ""
    """Why it is not fit to serve; empty when it is."""


class Prober(Protocol):
    """Asks backends how they are."""

    async def probe(self, backend: Backend) -> Probe:
        """Asks one, within a few seconds. Never raises: what fails is a problem."""
        ...


@dataclass(frozen=True, slots=True)
class BackendReport:
    """A backend, what it said, and where that differs from the registration."""

    backend: Backend
    probe: Probe
    context_length: int
    problems: tuple[str, ...]


class Models:
    """Changes the registry."""

    def __init__(
        self, store: ModelStore, engines: Mapping[EngineKind, BackendRules], prober: Prober
    ) -> None:
        self._store = store
        self._engines = engines
        self._prober = prober

    async def create(self, caller: Caller, model: Model) -> Model:
        """Registers a model, enabled. Raises InvalidField, AlreadyExists."""
        if not _NAME.fullmatch(model.name):
            raise InvalidField("model.name", _NAME_RULE)
        return await self._store.create(caller, self._checked(replace(model, enabled=True)))

    async def get(self, name: str) -> Model:
        """One model, enabled or not. Raises NotFound."""
        return _found(await self._store.get(name), name)

    async def page(self, after: str, size: int) -> tuple[list[Model], str]:
        """Models whose names follow `after`, and where the next page begins (empty: nowhere)."""
        found = await self._store.page(after, size + 1)
        more = len(found) > size
        return found[:size], found[size - 1].name if more else ""

    async def update(self, caller: Caller, name: str, changes: Mapping[str, Any]) -> Model:
        """Changes these fields of a model. Raises NotFound, InvalidField, AlreadyExists."""

        def change(before: Model) -> Model:
            after = replace(before, **changes)
            kept = {backend.url: backend.api_key for backend in before.backends}
            backends = tuple(
                replace(backend, api_key=kept.get(backend.url, MASK))
                if backend.api_key == MASK
                else backend
                for backend in after.backends
            )
            return self._checked(replace(after, backends=backends))

        return _found(await self._store.update(caller, name, "model.update", change), name)

    async def set_enabled(self, caller: Caller, name: str, enabled: bool) -> Model:
        """Lets a model be called, or stops it. Raises NotFound."""
        action = "model.enable" if enabled else "model.disable"
        changed = await self._store.update(
            caller, name, action, lambda before: replace(before, enabled=enabled)
        )
        return _found(changed, name)

    async def delete(self, caller: Caller, name: str) -> None:
        """Removes a model. Raises NotFound."""
        if not await self._store.delete(caller, name):
            raise NotFound("model", name)

    async def check(self, name: str) -> tuple[Model, list[BackendReport]]:
        """Asks the backends of a model, all at once. Raises NotFound."""
        model = await self.get(name)
        probes = await asyncio.gather(*map(self._prober.probe, model.backends))
        return model, [
            _report(model, backend, probe)
            for backend, probe in zip(model.backends, probes, strict=True)
        ]

    def _checked(self, model: Model) -> Model:
        """The model with what was left out filled in. Raises InvalidField."""
        _check_numbers(model)
        _check_names(model)
        return replace(
            model,
            backends=self._checked_backends(model),
            display_name=model.display_name or model.name,
            max_output_tokens=model.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS,
        )

    def _checked_backends(self, model: Model) -> tuple[Backend, ...]:
        backends = model.backends
        if not 1 <= len(backends) <= MAX_BACKENDS:
            raise InvalidField("model.backends", f"1 to {MAX_BACKENDS}")
        if len({backend.engine for backend in backends}) > 1:
            raise InvalidField("model.backends", "all must have the same engine")
        if len({backend.url.rstrip("/") for backend in backends}) < len(backends):
            raise InvalidField("model.backends", "no two may have the same URL")
        checked = []
        for index, backend in enumerate(backends):
            field = f"model.backends[{index}]" if len(backends) > 1 else "model.backend"
            try:
                self._engines[backend.engine].check(backend)
            except InvalidField as error:
                part = error.field.removeprefix("model.backend")
                raise InvalidField(field + part, error.metadata["rule"]) from None
            if backend.api_key == MASK:
                raise InvalidField(f"{field}.api_key", "no key is stored for this URL; give it")
            weight = backend.weight or 1
            if not 1 <= weight <= MAX_WEIGHT:
                raise InvalidField(f"{field}.weight", f"must be 1 to {MAX_WEIGHT}, got {weight}")
            upstream_model = backend.upstream_model or model.name
            checked.append(replace(backend, upstream_model=upstream_model, weight=weight))
        return tuple(checked)


def _check_numbers(model: Model) -> None:
    most = model.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS
    for field, value, maximum in (
        ("prompt_price_nanos", model.prompt_price_nanos, MAX_PRICE_NANOS),
        ("completion_price_nanos", model.completion_price_nanos, MAX_PRICE_NANOS),
        ("context_length", model.context_length, MAX_TOKENS),
        ("max_output_tokens", model.max_output_tokens, MAX_TOKENS),
        ("default_max_output_tokens", model.default_max_output_tokens, most),
    ):
        if not 0 <= value <= maximum:
            raise InvalidField(f"model.{field}", f"must be 0 to {maximum}, got {value}")


def _check_names(model: Model) -> None:
    if len(model.aliases) > MAX_ALIASES:
        raise InvalidField("model.aliases", f"at most {MAX_ALIASES}")
    for index, alias in enumerate(model.aliases):
        if not _NAME.fullmatch(alias):
            raise InvalidField(f"model.aliases[{index}]", _NAME_RULE)
    if len(set(model.names)) < len(model.names):
        raise InvalidField("model.aliases", "each once, and none the name of the model")
    if len(model.organization_ids) > MAX_ORGANIZATIONS:
        raise InvalidField("model.organization_ids", f"at most {MAX_ORGANIZATIONS}")
    if "chat_template_kwargs" in model.default_parameters and not model.allow_chat_template_kwargs:
        raise InvalidField(
            "model.default_parameters.chat_template_kwargs", "needs allow_chat_template_kwargs"
        )


def _report(model: Model, backend: Backend, probe: Probe) -> BackendReport:
    problems = [probe.problem] if probe.problem else []
    said = 0
    if probe.served is not None:
        asked = next((one for one in probe.served if one.name == backend.upstream_model), None)
        if asked is None:
            names = ", ".join(one.name for one in probe.served[:10])
            others = f"but {names}" if names else "nor anything else"
            problems.append(f"It does not serve {backend.upstream_model!r}, {others}.")
        else:
            said = asked.context_length
        if said and model.context_length > said:
            problems.append(
                f"{model.context_length} tokens of context are registered, but it has {said}."
            )
    return BackendReport(backend, probe, said, tuple(problems))


def _found(model: Model | None, name: str) -> Model:
    if model is None:
        raise NotFound("model", name)
    return model
