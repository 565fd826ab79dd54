"""The server-sent events of a stream, from what an engine gives; see Engine.stream.

Chats and completions end with `[DONE]`. Responses have named events and end with one of them:
`response.completed`, `response.incomplete` or `response.failed`. A failure in mid-stream is an
event too, since its status can't be told any more: official clients raise APIError at an event
that has `error`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from ias_inference.domain.engines import Operation

_DONE = b"data: [DONE]\n\n"


def joined(operation: Operation, batch: Sequence[bytes]) -> bytes:
    """The events of a batch as one piece of the answer."""
    if operation is Operation.RESPONSE:
        return b"\n\n".join(batch) + b"\n\n"
    return b"data: " + b"\n\ndata: ".join(batch) + b"\n\n"


def end(operation: Operation) -> bytes:
    """What follows the last event."""
    return b"" if operation is Operation.RESPONSE else _DONE


def failed(operation: Operation, body: bytes, sent: int, begun: bytes) -> bytes:
    """The last events of a stream that failed after `sent` events, and the end.

    `body` is the failure in OpenAI's shape, `begun` the stream's first event. A response ends as
    OpenAI's do: an `error`, then `response.failed`, which is what clients wait for that look at
    `response.*` alone.
    """
    if operation is not Operation.RESPONSE:
        return b"data: " + body + b"\n\n" + _DONE
    failure = msgspec.json.decode(body)
    told = failure["error"]
    error = {
        "type": "error",
        "code": told["code"],
        "message": told["message"],
        "param": told["param"],
        "sequence_number": sent,
        **failure,
    }
    response = _response_in(begun)
    if response is None:
        return _event(error)
    code = "server_error" if told["type"] == "server_error" else told["code"]
    response |= {"status": "failed", "error": {"code": code, "message": told["message"]}}
    last = {"type": "response.failed", "sequence_number": sent + 1, "response": response}
    return _event(error) + _event(last)


def _event(payload: dict[str, Any]) -> bytes:
    name = str(payload["type"]).encode()
    return b"event: " + name + b"\ndata: " + msgspec.json.encode(payload) + b"\n\n"


def _response_in(begun: bytes) -> dict[str, Any] | None:
    """The response as `response.created` showed it; None if the stream began with another event."""
    try:
        response = msgspec.json.decode(begun.partition(b"\ndata: ")[2]).get("response")
    except (msgspec.DecodeError, AttributeError):
        return None
    return response if isinstance(response, dict) else None
