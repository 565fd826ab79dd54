"""How tokens are chosen: SamplingParams from a request's fields, as vLLM's own requests make them.

Only for the fields of PLAIN; a request with any other goes through vLLM's serving objects.
"""

from collections.abc import Mapping
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.sampling_params import RequestOutputKind, SamplingParams

from ias_inference.adapters.engines.vllm.fields import values_of

_DEFAULTS: Mapping[str, Any] = ChatCompletionRequest.__private_attributes__[
    "_DEFAULT_SAMPLING_PARAMS"
].default
_OTHERS = (
    "seed",
    "stop",
    "ignore_eos",
    "min_tokens",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "include_stop_str_in_output",
)
PLAIN = frozenset({*_DEFAULTS, *_OTHERS, "stop_token_ids"})
"""Fields that change which tokens are chosen, but not what an answer consists of."""


class Sampling:
    """Makes SamplingParams with the defaults of one model."""

    def __init__(self, defaults: Mapping[str, Any]) -> None:
        self._defaults = {name: defaults.get(name, value) for name, value in _DEFAULTS.items()}
        self._stop_token_ids: list[int] = list(defaults.get("stop_token_ids") or ())

    def params(
        self, fields: Mapping[str, object], max_tokens: int, kind: RequestOutputKind
    ) -> SamplingParams:
        """Fields that are null count as absent. Raises vLLM's errors for what it finds wrong."""
        chosen = values_of(fields, fields.keys() & PLAIN)
        stops = chosen.get("stop_token_ids")
        if self._stop_token_ids:
            chosen["stop_token_ids"] = list(dict.fromkeys([*(stops or ()), *self._stop_token_ids]))
        return SamplingParams(
            **{**self._defaults, **chosen},
            max_tokens=max_tokens,
            output_kind=kind,
            skip_clone=True,  # made for this request alone
        )
