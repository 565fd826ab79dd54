"""The JSON of answers: vLLM's own under our names, and plain ones, which are written here.

Of those only the text is encoded for each chunk; all else is prepared once. Their fields are those
of vLLM's own, less the ones that are null there and unknown to OpenAI's clients.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from ias_inference.domain.engines import Job, Operation

encode = msgspec.json.encode


def shown(answer: dict[str, Raw], job: Job) -> bytes:
    """An answer of vLLM's, or a chunk of one, under our id and the model's public name."""
    answer["id"] = Raw(encode(job.completion_id))
    answer["model"] = Raw(encode(job.request.model))
    return encode(answer)


class Form:
    """How an operation's answers look."""

    __slots__ = ("after", "announce", "before", "kind", "whole_after", "whole_before", "whole_kind")

    def __init__(
        self, whole_kind: str, whole: tuple[bytes, bytes], kind: str, delta: tuple[bytes, bytes]
    ) -> None:
        self.whole_kind = b'","object":"' + whole_kind.encode() + b'","created":'
        self.whole_before, self.whole_after = whole
        self.kind = b'","object":"' + kind.encode() + b'","created":'
        self.before, self.after = delta
        self.announce = b""
        """What a stream begins with; empty for nothing."""


_CHAT = Form(
    "chat.completion",
    (b'"message":{"role":"assistant","content":', b',"refusal":null}'),
    "chat.completion.chunk",
    (b'"delta":{"content":', b"}"),
)
_CHAT.announce = b'"delta":{"role":"assistant","content":""}'
_COMPLETION = Form("text_completion", (b'"text":', b""), "text_completion", (b'"text":', b""))
FORMS: Mapping[Operation, Form] = {Operation.CHAT: _CHAT, Operation.COMPLETION: _COMPLETION}


def usage_of(job: Job) -> bytes:
    """The job's usage, as JSON."""
    usage = job.usage
    return (
        b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,'
        b'"prompt_tokens_details":{"cached_tokens":%d}}'
        % (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens,
            usage.cached_tokens,
        )
    )


def whole(job: Job, text: str, finish_reason: str, stop_reason: int | str | None) -> bytes:
    """The answer to a request that is not streamed."""
    form = FORMS[job.request.operation]
    return b"".join(
        (
            b'{"id":"',
            job.completion_id.encode(),
            form.whole_kind,
            b"%d" % job.created,
            b',"model":',
            encode(job.request.model),
            b',"choices":[{"index":0,',
            form.whole_before,
            encode(text),
            form.whole_after,
            b',"logprobs":null,"finish_reason":',
            encode(finish_reason),
            b',"stop_reason":',
            encode(stop_reason),
            b'}],"usage":',
            usage_of(job),
            b"}",
        )
    )


class Chunks:
    """The chunks of one stream."""

    __slots__ = ("_after", "_before", "_end", "_form", "_head")

    def __init__(self, job: Job) -> None:
        form = self._form = FORMS[job.request.operation]
        head = b'{"id":"' + job.completion_id.encode() + form.kind + b"%d" % job.created
        self._head = head + b',"model":' + encode(job.request.model) + b',"choices":['
        # Where a stream ends with its usage, OpenAI gives the other chunks a null.
        self._end = b'],"usage":null}' if job.request.include_usage else b"]}"
        self._before = self._head + b'{"index":0,' + form.before
        self._after = form.after + b',"logprobs":null,"finish_reason":null}' + self._end

    def opening(self) -> list[bytes]:
        """What comes before the first text."""
        announce = self._form.announce
        if not announce:
            return []
        said = b'{"index":0,' + announce + b',"logprobs":null,"finish_reason":null}'
        return [self._head + said + self._end]

    def text(self, text: str) -> bytes:
        """A piece of the answer."""
        return self._before + encode(text) + self._after

    def last(self, text: str, finish_reason: str, stop_reason: int | str | None) -> bytes:
        """The last piece, with the reason why it is the last."""
        return b"".join(
            (
                self._before,
                encode(text),
                self._form.after,
                b',"logprobs":null,"finish_reason":',
                encode(finish_reason),
                b',"stop_reason":',
                encode(stop_reason),
                b"}",
                self._end,
            )
        )

    def usage(self, job: Job) -> bytes:
        """The chunk that holds the usage alone."""
        return self._head + b'],"usage":' + usage_of(job) + b"}"
