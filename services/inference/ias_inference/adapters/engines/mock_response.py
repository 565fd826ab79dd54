"""What the mock says as a response of the Responses API, whole or as its named events."""

from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from ias_inference.adapters.engines import mock_forms
from ias_inference.adapters.engines.mock_plan import Answer
from ias_inference.adapters.engines.mock_wishes import Wishes
from ias_inference.domain.engines import Job

_ECHOED: dict[str, object] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
}
"""Fields of the request that a response repeats, and what they are if the request has none."""


class ResponseForm:
    """One `response` with one item: a message, or a call of a tool."""

    def __init__(self, job: Job, answers: Sequence[Answer], wishes: Wishes) -> None:
        self._job, self._wishes = job, wishes
        (self._answer,) = answers
        self._number = 0
        self._said = ""
        self._begun = False
        kind = "fc_" if wishes.tool else "msg_"
        self._item_id = kind + job.completion_id.removeprefix("resp_")
        self._place: dict[str, object] = {"item_id": self._item_id, "output_index": 0}
        if not wishes.tool:
            self._place["content_index"] = 0

    def token(self, _: int, text: str) -> list[bytes]:
        """The delta; before the first one, what begins the response and its item."""
        events = [] if self._begun else self._beginning()
        self._begun = True
        self._said += text
        if self._wishes.tool:
            events.append(self._event("response.function_call_arguments.delta", delta=text))
        else:
            events.append(self._event("response.output_text.delta", delta=text, logprobs=[]))
        return events

    def ends(self) -> list[bytes]:
        """What ends the item and the response."""
        item = self._item("completed" if self._complete else "incomplete", self._said)
        if self._wishes.tool:
            name = self._wishes.tool
            done = "response.function_call_arguments.done"
            events = [self._event(done, arguments=self._said, name=name)]
        else:
            events = [
                self._event("response.output_text.done", text=self._said, logprobs=[]),
                self._event("response.content_part.done", part=_part(self._said)),
            ]
        last = "response.completed" if self._complete else "response.incomplete"
        return [
            *events,
            self._event("response.output_item.done", place={"output_index": 0}, item=item),
            self._event(last, place={}, response=self._response(item)),
        ]

    def whole(self, texts: Sequence[str]) -> bytes:
        """The response."""
        item = self._item("completed" if self._complete else "incomplete", texts[0])
        return mock_forms.encode(self._response(item))

    @property
    def _complete(self) -> bool:
        return self._answer.finish_reason != "length"

    def _beginning(self) -> list[bytes]:
        response = self._response(None)
        added = self._item("in_progress", None)
        events = [
            self._event("response.created", place={}, response=response),
            self._event("response.in_progress", place={}, response=response),
            self._event("response.output_item.added", place={"output_index": 0}, item=added),
        ]
        if not self._wishes.tool:
            events.append(self._event("response.content_part.added", part=_part("")))
        return events

    def _event(self, kind: str, place: dict[str, object] | None = None, **facts: object) -> bytes:
        where = self._place if place is None else place
        payload = {"type": kind, "sequence_number": self._number, **where, **facts}
        self._number += 1
        return f"event: {kind}\ndata: ".encode() + mock_forms.encode(payload)

    def _item(self, status: str, said: str | None) -> dict[str, object]:
        """The item; with None, as it is before anything is said."""
        if self._wishes.tool:
            return {
                "id": self._item_id,
                "type": "function_call",
                "status": status,
                "call_id": mock_forms.call_id(self._job, 0),
                "name": self._wishes.tool,
                "arguments": said or "",
            }
        return {
            "id": self._item_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [] if said is None else [_part(said)],
        }

    def _response(self, item: dict[str, object] | None) -> dict[str, object]:
        """The response; without an item, as it is before the first one."""
        job, body = self._job, self._job.request.body
        status = "in_progress"
        if item is not None:
            status = "completed" if self._complete else "incomplete"
        echoed = {name: body.get(name, default) for name, default in _ECHOED.items()}
        for name, value in echoed.items():
            if value is None or (isinstance(value, Raw) and bytes(value) == b"null"):
                echoed[name] = _ECHOED[name]
        return {
            "id": job.completion_id,
            "object": "response",
            "created_at": job.created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": (
                {"reason": "max_output_tokens"} if status == "incomplete" else None
            ),
            "model": job.model.name,
            "output": [] if item is None else [item],
            "previous_response_id": None,
            "service_tier": "default",
            "store": False,
            "user": None,
            **echoed,
            "usage": None if item is None else _usage(job),
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(job: Job) -> dict[str, object]:
    used = job.usage
    return {
        "input_tokens": used.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": used.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used.total_tokens,
    }
