"""What `mock` will say, and how: planned whole before the first token, from the request alone.

Switches stand in the registration (`mock:?pace_ms=5&fail_after=10`) and, if that has `switches=1`,
also in the last message of the user: `[mock tokens=100 pace_ms=20]`.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from urllib.parse import parse_qsl

from ias_inference.adapters.engines import mock_tokens
from ias_inference.adapters.engines.mock_json import instance_of
from ias_inference.adapters.engines.mock_wishes import NONE, Wishes
from ias_inference.domain.engines import Request, Turn
from ias_runtime.errors import InvalidField

MAX_TOKENS = 100_000
_DIRECTIVE = re.compile(r"\[mock((?: [a-z_]+=[0-9]+)+)\]")
_PIECE = re.compile(r"\s*\w{1,8}|\s*[^\w\s]|\s+")
"""Tokens of an answer that is not made of words."""
_VOCABULARY = (
    "the a gateway model token budget lease key answer stream quiet river stone light window"
    " garden letter morning winter paper signal metal harbour forest engine bridge music silver"
    " question pattern number shadow candle mirror thunder meadow lantern compass ladder feather"
    " marble copper valley orchard and of in with under over near beyond before after while"
    " because where until grows moves holds carries turns keeps finds counts gives takes"
)
_WORDS = _VOCABULARY.split()


@dataclass(frozen=True, slots=True)
class Switches:
    """How the mock behaves; all are numbers, off when 0."""

    start_ms: int = 0
    """Waits before the first token."""
    pace_ms: int = 0
    """Waits before each further token."""
    tokens: int = 0
    """Says exactly so many tokens per answer, unless `max_tokens` or a stop string ends it."""
    fail: int = 0
    """1: fails before the first token."""
    fail_after: int = 0
    """Fails when it has produced so many tokens."""
    stall_before: int = 0
    """Stops for ever before its nth token, counted from 1."""
    switches: int = 0
    """1: the last message of the user may set switches too. For registrations only."""


_NAMES = frozenset(field.name for field in fields(Switches))


@lru_cache(maxsize=1024)
def parse_url(url: str) -> Switches:
    """The switches of a registration. Raises InvalidField."""
    scheme, _, query = url.partition("?")
    if scheme not in ("", "mock", "mock:"):
        raise InvalidField("model.backend.url", "must be empty or `mock:?switch=number&…`")
    try:
        pairs = parse_qsl(query, strict_parsing=True) if query else []
        return _parse(dict(pairs))
    except ValueError as error:
        raise InvalidField(
            "model.backend.url", f"{error}; the switches are {', '.join(sorted(_NAMES))}"
        ) from None


def _parse(pairs: dict[str, str]) -> Switches:
    values = {}
    for name, text in pairs.items():
        if name not in _NAMES:
            raise ValueError(f"no switch {name[:40]!r}")
        if not text.isascii() or not text.isdigit() or int(text[:8]) > MAX_TOKENS or len(text) > 8:
            raise ValueError(f"{name} must be 0 to {MAX_TOKENS}")
        values[name] = int(text)
    return Switches(**values)


def switches_of(url: str, turns: Sequence[Turn]) -> Switches:
    """What holds for a request: the registration's, overridden by a directive where allowed."""
    found = parse_url(url)
    if not found.switches:
        return found
    for turn in reversed(turns):
        if turn.role == "user":
            said = _DIRECTIVE.search(turn.text)
            if said:
                pairs = dict(pair.split("=", 1) for pair in said[1].split())
                pairs.pop("switches", None)
                known = {name: text for name, text in pairs.items() if name in _NAMES}
                try:
                    asked = _parse(known)
                except ValueError:
                    return found
                return replace(found, **{name: getattr(asked, name) for name in known})
            return found
    return found


def turns_of(request: Request) -> Sequence[Turn]:
    """The prompt as turns; one for each text where it is no chat. Raises InvalidRequest."""
    if request.turns or not request.inputs:
        return request.turns
    return [Turn("user", text) for text in mock_tokens.texts_of(request.inputs, "prompt")]


@dataclass(frozen=True, slots=True)
class Answer:
    """One planned answer."""

    tokens: tuple[str, ...]
    """The text, a token each; the last may be cut short or emptied by a stop string."""
    finish_reason: str


def plan(
    request: Request,
    switches: Switches,
    max_tokens: int,
    wishes: Wishes = NONE,
    turns: Sequence[Turn] | None = None,
) -> list[Answer]:
    """All answers to a request: the same for the same request, whatever else happens.

    Those to the first prompt come first. `turns` are the request's, if already known.
    """
    turns = turns_of(request) if turns is None else turns
    prompts = [[turn] for turn in turns] if request.inputs else [turns]
    answers = []
    for prompt in prompts:
        digest = hashlib.blake2b(digest_size=16)
        for turn in prompt:
            digest.update(f"{turn.role}\x00{turn.text}\x01".encode())
        digest.update(f"{request.seed}".encode())
        for index in range(request.n):
            seed = hashlib.blake2b(digest.digest() + index.to_bytes(2, "big"), digest_size=8)
            number = int.from_bytes(seed.digest(), "big")
            answers.append(_answer(number, request, switches, max_tokens, wishes))
    return answers


def likely_tokens(number: int) -> list[str]:
    """The vocabulary, in an order that depends on the number alone."""
    start = number % len(_WORDS)
    return [*_WORDS[start:], *_WORDS[:start]]


def _answer(
    number: int, request: Request, switches: Switches, max_tokens: int, wishes: Wishes
) -> Answer:
    if wishes.tool or wishes.schema is not None or wishes.choices:
        tokens, length = _structured(number, wishes, max_tokens)
    else:
        tokens, length = _worded(number, request, switches, max_tokens)
    finish = "length" if len(tokens) < length else "tool_calls" if wishes.tool else "stop"
    if request.stop and not wishes.tool:
        tokens, stopped = _cut_at_stop(tokens, request.stop)
        finish = "stop" if stopped else finish
    return Answer(tuple(tokens), finish)


def _structured(number: int, wishes: Wishes, max_tokens: int) -> tuple[list[str], int]:
    """The tokens kept, and how many there would be."""
    if wishes.choices and not wishes.tool:
        text = wishes.choices[number % len(wishes.choices)]
    else:
        text = json.dumps(instance_of(wishes.schema), separators=(",", ":"), ensure_ascii=False)
    tokens = _PIECE.findall(text)
    return tokens[:max_tokens], len(tokens)


def _worded(
    number: int, request: Request, switches: Switches, max_tokens: int
) -> tuple[list[str], int]:
    """The same for an answer of words."""
    length = switches.tokens or 16 + number % 25
    start, stride = number >> 8, 1 + (number >> 32) % (len(_WORDS) - 1)
    kept = min(length, max_tokens)
    words = (_WORDS[(start + i * stride) % len(_WORDS)] for i in range(kept))
    tokens = [word if i == 0 else " " + word for i, word in enumerate(words)]
    if request.json_object and tokens:
        tokens[0] = '{"answer": "' + tokens[0]
        if kept == length:
            tokens[-1] += '"}'
    return tokens, length


def _cut_at_stop(tokens: list[str], stops: Sequence[str]) -> tuple[list[str], bool]:
    text = "".join(tokens)
    at = min((found for stop in stops if stop and (found := text.find(stop)) >= 0), default=-1)
    if at < 0:
        return tokens, False
    kept: list[str] = []
    length = 0
    for token in tokens:
        # The token in which the stop string begins was produced, and counts.
        kept.append(token[: max(0, at - length)])
        length += len(token)
        if length > at:
            break
    return kept, True
