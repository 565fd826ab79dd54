"""What an engine does for a request, whichever kind it is."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ias_inference.domain.models import Backend, Model
from ias_inference.domain.usage import Usage


class Operation(StrEnum):
    """What is asked of an engine; the value is what a usage event calls `operation`."""

    CHAT = "chat"
    COMPLETION = "completion"
    RESPONSE = "response"
    EMBEDDING = "embedding"
    RERANK = "rerank"
    SCORE = "score"
    TOKENIZE = "tokenize"
    DETOKENIZE = "detokenize"

    # Looked up a dozen times a request; Enum's own hash is a call into Python.
    __hash__ = str.__hash__

    @property
    def generates(self) -> bool:
        """Whether the answer has tokens of its own, to be drawn beside the prompt's."""
        return self in _GENERATING

    @property
    def feature(self) -> str:
        """What it is called when a model can't do it."""
        return _FEATURES[self]

    @property
    def metered(self) -> bool:
        """Whether it runs the model, so that tokens are drawn and an event is recorded."""
        return self not in _UNMETERED


_GENERATING = frozenset({Operation.CHAT, Operation.COMPLETION, Operation.RESPONSE})
_UNMETERED = frozenset({Operation.TOKENIZE, Operation.DETOKENIZE})
_FEATURES = {
    Operation.CHAT: "chat completions",
    Operation.COMPLETION: "text completions",
    Operation.RESPONSE: "the Responses API",
    Operation.EMBEDDING: "embeddings",
    Operation.RERANK: "reranking",
    Operation.SCORE: "scoring",
    Operation.TOKENIZE: "tokenization",
    Operation.DETOKENIZE: "detokenization",
}


@dataclass(slots=True)
class Turn:
    """One message of a chat, as far as anything but the model reads it."""

    role: str
    text: str
    """The text of all its parts; empty when it has none."""


@dataclass(slots=True)
class Request:
    """A request that was parsed, bounded and found well-formed."""

    operation: Operation
    model: str
    body: Mapping[str, object]
    """What an OpenAI-compatible engine gets, by field; values are JSON that nobody looks into."""
    size_bytes: int
    """Of the request as it came; what prompt estimates are made from."""
    streamed: bool = False
    turns: Sequence[Turn] = ()
    """CHAT, RESPONSE: the messages. Empty for the other operations."""
    inputs: Sequence[str | Sequence[int]] = ()
    """Texts or token ids. COMPLETION: the prompts; EMBEDDING: what is embedded; RERANK, SCORE:
    the documents; TOKENIZE, DETOKENIZE: the one text."""
    queries: Sequence[str] = ()
    """RERANK: the query; SCORE: one for all documents, or one for each."""
    max_tokens: int | None = None
    """Tokens per answer at most, as asked for; None leaves it to the model."""
    n: int = 1
    """Answers to each prompt."""
    seed: int | None = None
    stop: Sequence[str] = ()
    json_object: bool = False
    """Whether the answer must be a JSON object."""
    media_field: str = ""
    """Path of the first part that is not text; empty when all is text."""
    include_usage: bool = False
    """Whether a stream ends with a chunk that holds the usage."""

    @property
    def answers(self) -> int:
        """Answers to all prompts together."""
        return self.n * (len(self.inputs) or 1)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is known of a request before its engine starts."""

    prompt_tokens: int
    """What the prompt has, or, if not exact, hardly ever exceeds."""
    longest: int | None = None
    """Tokens that one answer can't exceed for reasons of the engine's own; None for unknown."""
    exact: bool = False
    """Whether the prompt was counted rather than guessed."""
    largest_prompt: int | None = None
    """What the longest of several prompts has; None when there is one alone."""
    prepared: object | None = None
    """What the engine made of the request on the way (rendered, as token ids, …); for itself."""


@dataclass(slots=True)
class Job:
    """One request on its way through an engine."""

    model: Model
    backend: Backend
    """The one of the model's that was chosen for this request."""
    request: Request
    completion_id: str
    """The id that the client sees, as `chatcmpl-…`."""
    created: int
    """Unix seconds."""
    usage: Usage
    """The engine writes here what it has produced, as it produces it."""
    prompt_tokens: int
    """The estimate: stands for the count until the engine has told it."""
    max_tokens: int
    """Tokens per answer at most."""
    limit: int = 0
    """Tokens in all, the prompt's included, that the request may use by now; grows in a stream.
    Set when they are drawn."""
    prepared: object | None = None
    """What `Engine.prepare` left in the estimate."""
    ended: bool = False
    """Set by the engine when its stream has told the end of every answer: nothing to cut off."""

    @property
    def room(self) -> int:
        """Tokens that may still be used before more must be drawn."""
        usage = self.usage
        return self.limit - (usage.prompt_tokens or self.prompt_tokens) - usage.completion_tokens

    @property
    def outstanding(self) -> int:
        """Tokens that the answers may still get until each has `max_tokens`."""
        return self.max_tokens * self.request.answers - self.usage.completion_tokens


@dataclass(frozen=True, slots=True)
class Served:
    """A model that a server says it serves."""

    name: str
    context_length: int = 0
    """Tokens; 0 when it doesn't say."""


class Engine(Protocol):
    """A model engine. Answers are in OpenAI's JSON, since nearly every client asks for that."""

    def check(self, backend: Backend) -> None:
        """Raises InvalidField when no such backend could be served."""
        ...

    async def prepare(self, model: Model, request: Request) -> Estimate:
        """What a request will take. Nothing runs yet, and nothing is undone if nothing follows.

        Raises InvalidRequest for what is wrong with it, Unsupported for what the model or the
        engine can't do.
        """
        ...

    async def complete(self, job: Job) -> bytes:
        """The whole answer, the JSON object of the operation. Raises EngineRefused, EngineFailed.

        It is what OpenAI's API answers; for RERANK, SCORE, TOKENIZE and DETOKENIZE, vLLM's.
        """
        ...

    def stream(self, job: Job) -> AsyncGenerator[list[bytes], None]:
        """The events of the answer, those together that are ready together.

        CHAT, COMPLETION: the JSON payloads alone (`chat.completion.chunk`, `text_completion`).
        RESPONSE, whose events have names: whole events without the empty line at their end, as
        `event: response.created\\ndata: {…}`. Other operations are never streamed.

        Pauses (yields what it has) when `job.room` is used up; whoever asks for more has made
        room. Raises EngineRefused before the first event only, EngineFailed at any time. Closing
        the generator stops the engine at once.
        """
        ...


class Adapter(Engine, Protocol):
    """The engine of the kind `vllm`, as this process has it: its own, a mock, or none."""

    def served(self) -> tuple[Served, ...] | None:
        """What it serves, by each name that `upstream_model` may be; none where it serves nothing.

        None when it serves every name alike. Raises EngineFailed while it is not ready.
        """
        ...
