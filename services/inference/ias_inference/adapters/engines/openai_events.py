"""Server-sent events of a server's Responses API, rewritten event by event and counted."""

from collections.abc import Collection

from msgspec import DecodeError, Raw, Struct, json

from ias_inference.adapters.engines import openai_json
from ias_inference.domain.engines import Job
from ias_inference.domain.errors import EngineFailed

LAST = frozenset({"response.completed", "response.incomplete"})
"""Events that end a response."""
_LENGTH = Raw(b'{"reason":"max_output_tokens"}')


class _Event(Struct):
    """What of an event is looked at."""

    type: str
    response: dict[str, Raw] | None = None


_event_of = json.Decoder(_Event).decode


class EventRewriter:
    """Gives events our id and model name. The server tells its usage in the last one alone.

    Until then each delta stands for a token, which is what servers send while they stream.
    """

    __slots__ = ("_job", "_seen", "finished")

    def __init__(self, job: Job) -> None:
        self._job = job
        self._seen = 0
        self.finished = False
        """Whether the event that ends a response was seen."""

    @property
    def open(self) -> Collection[int]:
        """The one answer, until it has ended."""
        return () if self.finished else (0,)

    def rewrite(self, payload: bytes) -> bytes:
        """The whole event for the client. Raises EngineFailed."""
        job = self._job
        try:
            event = _event_of(payload)
            if event.type == "error":
                told = openai_json.error_message(payload)[0]
                raise EngineFailed(job.model.name, "broke off its answer", told)
            if event.type.endswith(".delta"):
                self._seen += 1
                job.usage.completion_tokens = self._seen
            kind = event.type
            if event.response is not None:
                kind = last_kind(kind, event.response)
                payload = self._with_response(kind, event.response, payload)
        except (DecodeError, ValueError, RecursionError) as error:
            raise EngineFailed(job.model.name, "broke off its answer", repr(error)) from None
        if kind == "response.failed":
            raise EngineFailed(job.model.name, "broke off its answer", _told(event.response))
        self.finished = kind in LAST
        return b"event: " + kind.encode() + b"\ndata: " + payload

    def _with_response(self, kind: str, response: dict[str, Raw], payload: bytes) -> bytes:
        job = self._job
        usage = openai_json.response_usage_of(response.get("usage", openai_json.NULL))
        if usage is not None:
            usage.common().note(job)
        response["id"] = Raw(openai_json.encode(job.completion_id))
        response["model"] = Raw(openai_json.encode(job.model.name))
        fields = openai_json.object_of(payload)
        fields["type"] = Raw(openai_json.encode(kind))
        fields["response"] = Raw(openai_json.encode(response))
        return openai_json.encode(fields)


def last_kind(kind: str, response: dict[str, Raw]) -> str:
    """The name that an event must have by the status of its response.

    vLLM ends every stream with `response.completed`, also where the length ended it; OpenAI's
    clients take such an answer for whole. Completes what an incomplete response has to say.
    """
    if kind == "response.completed" and bytes(response.get("status", b"")) == b'"incomplete"':
        kind = "response.incomplete"
    details = response.get("incomplete_details", openai_json.NULL)
    if kind == "response.incomplete" and bytes(details) == b"null":
        response["incomplete_details"] = _LENGTH
    return kind


def _told(response: dict[str, Raw] | None) -> str:
    """Why a response failed, for the log."""
    return bytes((response or {}).get("error", b"")).decode(errors="replace")[:2000]
