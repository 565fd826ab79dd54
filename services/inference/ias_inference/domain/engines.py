"""What an engine does for a request, whichever kind it is."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ias_inference.domain.models import Backend, Model
from ias_inference.domain.usage import Usage


@dataclass(slots=True)
class Turn:
    """One message of a chat, as far as anything but the model reads it."""

    role: str
    text: str
    """The text of all its parts; empty when it has none."""


@dataclass(slots=True)
class ChatRequest:
    """A chat request that was parsed, bounded and found well-formed."""

    model: str
    turns: Sequence[Turn]
    body: Mapping[str, object]
    """What an OpenAI-compatible engine gets, by field; values are JSON that nobody looks into."""
    size_bytes: int
    """Of the request as it came; what prompt estimates are made from."""
    max_tokens: int | None = None
    """Tokens per answer at most, as asked for; None leaves it to the model."""
    n: int = 1
    seed: int | None = None
    stop: Sequence[str] = ()
    json_object: bool = False
    """Whether the answer must be a JSON object."""
    media_field: str = ""
    """Path of the first part that is not text; empty when all is text."""
    include_usage: bool = False
    """Whether a stream ends with a chunk that holds the usage."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is known of a request before its engine starts."""

    prompt_tokens: int
    """What the prompt has, or, if not exact, hardly ever exceeds."""
    longest: int | None = None
    """Tokens that one answer can't exceed for reasons of the engine's own; None for unknown."""
    exact: bool = False
    """Whether the prompt was counted rather than guessed."""


@dataclass(slots=True)
class Job:
    """One request on its way through an engine."""

    model: Model
    request: ChatRequest
    completion_id: str
    created: int
    """Unix seconds."""
    usage: Usage
    """The engine writes here what it has produced, as it produces it."""
    prompt_tokens: int
    """The estimate: stands for the count until the engine has told it."""
    max_tokens: int
    """Tokens per answer at most."""
    limit: int
    """Tokens in all, the prompt's included, that the request may use by now; grows in a stream."""

    @property
    def room(self) -> int:
        """Tokens that may still be used before more must be drawn."""
        usage = self.usage
        return self.limit - (usage.prompt_tokens or self.prompt_tokens) - usage.completion_tokens

    @property
    def outstanding(self) -> int:
        """Tokens that the answers may still get until each has `max_tokens`."""
        return self.max_tokens * self.request.n - self.usage.completion_tokens


class Engine(Protocol):
    """A model engine. Answers are in OpenAI's JSON, since nearly every client asks for that."""

    def check(self, backend: Backend) -> None:
        """Raises InvalidField when no such backend could be served."""
        ...

    def estimate(self, model: Model, request: ChatRequest) -> Estimate:
        """What a request will take. Raises InvalidRequest when the engine can't serve it."""
        ...

    async def complete(self, job: Job) -> bytes:
        """A `chat.completion` object. Raises EngineRefused, EngineFailed."""
        ...

    def stream(self, job: Job) -> AsyncGenerator[list[bytes], None]:
        """`chat.completion.chunk` objects, those together that are ready together.

        Pauses (yields what it has) when `job.room` is used up; whoever asks for more has made
        room. Raises EngineRefused before the first chunk only, EngineFailed at any time. Closing
        the generator stops the engine at once.
        """
        ...
