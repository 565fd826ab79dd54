"""The JSON of an OpenAI-compatible server: taken apart only as far as accounting needs it.

Objects are decoded to their top-level fields as raw bytes, so that everything a server says
reaches the client as it was said, in the same order, at little cost.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from ias_inference.domain.engines import Job

encode = msgspec.json.encode
_MAX_MESSAGE = 2000
"""Characters of a server's error message that reach the client."""


class _CachedTokens(Struct):
    cached_tokens: int | None = 0


class UpstreamUsage(Struct):
    """`usage` as servers send it."""

    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: _CachedTokens | None = None

    def note(self, job: Job) -> None:
        """Takes the counts over into the job's usage."""
        usage = job.usage
        usage.prompt_tokens = max(0, self.prompt_tokens)
        usage.completion_tokens = max(0, self.completion_tokens or 0)
        if self.prompt_tokens_details is not None:
            usage.cached_tokens = max(0, self.prompt_tokens_details.cached_tokens or 0)


class Choice(Struct):
    """One choice of a chunk."""

    index: int = 0
    delta: dict[str, Raw] | None = None
    finish_reason: str | None = None

    @property
    def has_content(self) -> bool:
        """Whether it carries something that a model had to produce."""
        delta = self.delta
        if not delta:
            return False
        # Servers announce the role with an empty content, or null.
        return any(name != "role" and bytes(value) not in _NOTHING for name, value in delta.items())


_NOTHING = (b'""', b"null", b"[]", b"{}")

object_of = msgspec.json.Decoder(dict[str, Raw]).decode
choices_of = msgspec.json.Decoder(list[Choice]).decode
usage_of = msgspec.json.Decoder(UpstreamUsage | None).decode
any_of = msgspec.json.Decoder().decode


def error_message(body: bytes) -> tuple[str, str]:
    """What a server's error says, and the field it names (empty: none). Never fails."""
    try:
        found: Any = any_of(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return "it gave no reason", ""
    error = found.get("error", found) if isinstance(found, dict) else found
    if isinstance(error, dict):
        message, param = error.get("message") or error.get("detail"), error.get("param")
    else:
        message, param = error, None
    told = message if isinstance(message, str) and message else "it gave no reason"
    return told[:_MAX_MESSAGE], param[:200] if isinstance(param, str) else ""
