"""The JSON of an OpenAI-compatible server: taken apart only as far as accounting needs it.

Objects are decoded to their top-level fields as raw bytes, so that everything a server says
reaches the client as it was said, in the same order, at little cost.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw, Struct

from ias_inference.domain.engines import Job, Operation

encode = msgspec.json.encode
_MAX_MESSAGE = 2000
"""Characters of a server's error message that reach the client."""
_NO_REASON = "it gave no reason"


class _CachedTokens(Struct):
    cached_tokens: int | None = 0


class UpstreamUsage(Struct):
    """`usage` as servers send it: rerankers tell the total alone."""

    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    total_tokens: int | None = 0
    prompt_tokens_details: _CachedTokens | None = None

    @property
    def prompt(self) -> int:
        """Tokens of the prompt."""
        if self.prompt_tokens:
            return max(0, self.prompt_tokens)
        return max(0, (self.total_tokens or 0) - (self.completion_tokens or 0))

    def note(self, job: Job) -> None:
        """Takes the counts over into the job's usage."""
        usage = job.usage
        usage.prompt_tokens = self.prompt
        usage.completion_tokens = max(0, self.completion_tokens or 0)
        if self.prompt_tokens_details is not None:
            usage.cached_tokens = max(0, self.prompt_tokens_details.cached_tokens or 0)


class ResponseUsage(Struct):
    """`usage` of a response."""

    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _CachedTokens | None = None

    def common(self) -> UpstreamUsage:
        """The same in the words of the other operations."""
        return UpstreamUsage(
            prompt_tokens=self.input_tokens,
            completion_tokens=self.output_tokens,
            prompt_tokens_details=self.input_tokens_details,
        )


class Choice(Struct):
    """One choice of a chunk."""

    index: int = 0
    text: str | None = None
    delta: dict[str, Raw] | None = None
    finish_reason: str | None = None

    @property
    def has_content(self) -> bool:
        """Whether it carries something that a model had to produce."""
        if self.text:
            return True
        delta = self.delta
        if not delta:
            return False
        # Servers announce the role with an empty content, or null.
        return any(name != "role" and bytes(value) not in _NOTHING for name, value in delta.items())


_NOTHING = (b'""', b"null", b"[]", b"{}")

object_of = msgspec.json.Decoder(dict[str, Raw]).decode
choices_of = msgspec.json.Decoder(list[Choice]).decode
usage_of = msgspec.json.Decoder(UpstreamUsage | None).decode
response_usage_of = msgspec.json.Decoder(ResponseUsage | None).decode
NULL = Raw(b"null")


def usage_in(operation: Operation, usage: Raw) -> UpstreamUsage | None:
    """The `usage` of an answer; None when it tells none. Raises msgspec.DecodeError."""
    if operation is Operation.RESPONSE:
        found = response_usage_of(usage)
        return None if found is None else found.common()
    told: UpstreamUsage | None = usage_of(usage)
    return told


any_of = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class ServerError:
    """What a server says of its failure."""

    message: str
    field: str = ""
    """What it found wrong; empty if it names nothing."""
    code: str = ""
    """OpenAI's name of the failure, or a number."""


def error_of(body: bytes) -> ServerError | None:
    """What a server's error says; None when it is no JSON, or says nothing. Never fails."""
    try:
        found: Any = any_of(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    error = found.get("error", found) if isinstance(found, dict) else found
    if isinstance(error, str) and error:
        return ServerError(error[:_MAX_MESSAGE])
    if not isinstance(error, dict):
        return None
    message, param = error.get("message") or error.get("detail"), error.get("param")
    code = error.get("code")
    return ServerError(
        message[:_MAX_MESSAGE] if isinstance(message, str) and message else _NO_REASON,
        param[:200] if isinstance(param, str) else "",
        str(code)[:200] if isinstance(code, str | int) else "",
    )


def error_message(body: bytes) -> tuple[str, str]:
    """What a server's error says, and the field it names (empty: none). Never fails."""
    error = error_of(body) or ServerError(_NO_REASON)
    return error.message, error.field
