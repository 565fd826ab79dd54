"""Server-sent events of an OpenAI-compatible server, rewritten chunk by chunk and counted."""

from collections.abc import Collection
from typing import Protocol

from msgspec import DecodeError, Raw

from ias_inference.adapters.engines import openai_json
from ias_inference.domain.engines import Job
from ias_inference.domain.errors import EngineFailed

_MAX_LINE_BYTES = 16 * 1024 * 1024
_NULL = Raw(b"null")


class Rewriter(Protocol):
    """Turns what a server sends into what the client gets, and keeps the job's usage."""

    finished: bool
    """Whether the end of the stream was seen."""

    @property
    def open(self) -> Collection[int]:
        """Answers that have not ended yet."""
        ...

    def rewrite(self, payload: bytes) -> bytes | None:
        """The event for the client; None when it is for us alone. Raises EngineFailed."""
        ...


class EventLines:
    """Cuts the bytes of a stream into the payloads of its `data:` lines."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are complete by now. Raises ValueError for a line without end."""
        lines = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _MAX_LINE_BYTES:
            raise ValueError("a line without end")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


class ChunkRewriter:
    """Turns a server's chunks into the gateway's, and keeps the job's usage."""

    __slots__ = ("_counted", "_id", "_job", "_model", "_told", "finished", "open")

    def __init__(self, job: Job) -> None:
        self._job = job
        self._id = Raw(openai_json.encode(job.completion_id))
        self._model = Raw(openai_json.encode(job.model.name))
        self._told = False
        """Whether the server has told its usage."""
        self._counted = 0
        """Pieces of answers seen: stands for tokens until the server tells its usage."""
        self.open = set(range(job.request.answers))
        """Answers that have no finish reason yet."""
        self.finished = False
        """Whether `[DONE]` was seen."""

    def rewrite(self, payload: bytes) -> bytes | None:
        """The chunk for the client; None when it is for us alone. Raises EngineFailed."""
        job = self._job
        try:
            chunk = openai_json.object_of(payload)
            usage = openai_json.usage_of(chunk.pop("usage", _NULL))
            choices = openai_json.choices_of(chunk["choices"])
        except (DecodeError, ValueError, RecursionError, KeyError) as error:
            cause = openai_json.error_message(payload)[0] if b'"error"' in payload else repr(error)
            raise EngineFailed(job.model.name, "broke off its answer", cause) from None
        for choice in choices:
            if choice.has_content:
                self._counted += 1
            if choice.finish_reason is not None:
                self.open.discard(choice.index)
        if usage is not None:
            self._note(usage, final=not choices)
        elif not self._told:
            job.usage.completion_tokens = self._counted
        chunk["id"] = self._id
        chunk["model"] = self._model
        if choices:
            if job.request.include_usage:
                chunk["usage"] = _NULL
        elif usage is None or not job.request.include_usage:
            return None
        else:
            chunk["usage"] = Raw(openai_json.encode(_shown(job)))
        return openai_json.encode(chunk)

    def _note(self, usage: openai_json.UpstreamUsage, *, final: bool) -> None:
        job = self._job
        if not final and job.request.answers > 1:
            # Some servers tell the usage of the chunk's own choice here: not less than was seen.
            usage.completion_tokens = max(
                usage.completion_tokens or 0, self._counted, job.usage.completion_tokens
            )
            usage.prompt_tokens = max(usage.prompt, job.usage.prompt_tokens)
        self._told = final or job.request.answers == 1
        usage.note(job)


def _shown(job: Job) -> dict[str, object]:
    usage = job.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
