"""Fits a request to what its model's registration says."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from ias_inference.domain.engines import Operation, Request
from ias_inference.domain.errors import InvalidRequest, Unsupported
from ias_inference.domain.models import Model, ModelKind

_TEMPLATE = "chat_template_kwargs"
_TOKENS = frozenset({Operation.TOKENIZE, Operation.DETOKENIZE})
_SERVED = {
    ModelKind.CHAT: frozenset(Operation),
    ModelKind.COMPLETION: _TOKENS | {Operation.COMPLETION},
    ModelKind.EMBEDDING: _TOKENS | {Operation.EMBEDDING, Operation.SCORE},
    ModelKind.RERANK: _TOKENS | {Operation.RERANK, Operation.SCORE},
}
"""What a model may be asked for, by its kind; its engine may be able to do less."""
_OF_RESPONSES = frozenset({"temperature", "top_p"})
"""The Responses API has no other sampling fields."""
_DEFAULTED = {
    Operation.CHAT: None,
    Operation.COMPLETION: frozenset({_TEMPLATE, "reasoning_effort", "verbosity"}),
    Operation.RESPONSE: None,
}
"""Where default parameters apply, and which of them mean nothing there."""


def fitted(model: Model, request: Request) -> Request:
    """The request with the model's default parameters under its own.

    Raises Unsupported for an operation that the model isn't made for, InvalidRequest for a field
    that its registration doesn't allow.
    """
    if model.kind is not ModelKind.CHAT and request.operation not in _SERVED[model.kind]:
        raise Unsupported(model.name, request.operation.feature)
    if not model.allow_chat_template_kwargs and _TEMPLATE in request.body:
        raise InvalidRequest(_TEMPLATE, f"Unrecognized request argument supplied: {_TEMPLATE}")
    if not model.default_parameters or request.operation not in _DEFAULTED:
        return request
    meaningless = _DEFAULTED[request.operation] or frozenset()
    own = request.body
    added = {
        name: value
        for name, value in model.default_parameters.items()
        if name not in meaningless
        and not _given(own, name)
        and (request.operation is not Operation.RESPONSE or name in _OF_RESPONSES)
    }
    if not added:
        return request
    return replace(
        request,
        body={**own, **added},
        seed=cast(int, added["seed"]) if "seed" in added else request.seed,
        stop=_stops(added["stop"]) if "stop" in added else request.stop,
    )


def _given(body: Mapping[str, object], name: str) -> bool:
    """Whether the request has a value of its own; null stands for none, as with OpenAI."""
    value = body.get(name)
    if value is None:
        return False
    # JSON that nobody looked into comes as a buffer.
    return isinstance(value, (bool, int, float, str, list, dict)) or bytes(value) != b"null"  # type: ignore[call-overload]


def _stops(value: object) -> list[str]:
    return [value] if isinstance(value, str) else list(cast(list[str], value))
