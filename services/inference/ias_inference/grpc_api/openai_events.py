"""The server-sent events of a stream, from what an engine gives; see Engine.stream.

Chats and completions end with `[DONE]`. Responses have named events and end with one of them. A
failure in mid-stream is an event too, since its status can't be told any more: official clients
raise APIError at an event that has `error`.
"""

from collections.abc import Sequence

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


def failed(operation: Operation, body: bytes, sent: int) -> bytes:
    """The last event of a stream that failed after `sent` events, and the end.

    `body` is the failure in OpenAI's shape.
    """
    if operation is not Operation.RESPONSE:
        return b"data: " + body + b"\n\n" + _DONE
    failure = msgspec.json.decode(body)
    told = failure["error"]
    event = {
        "type": "error",
        "code": told["code"],
        "message": told["message"],
        "param": told["param"],
        "sequence_number": sent,
        **failure,
    }
    return b"event: error\ndata: " + msgspec.json.encode(event) + b"\n\n"
