"""What the mock says as OpenAI's objects: chats and text completions, whole or chunk by chunk."""

import math
from collections.abc import Sequence
from typing import Protocol

import msgspec

from ias_inference.adapters.engines import mock_plan
from ias_inference.adapters.engines.mock_plan import Answer
from ias_inference.adapters.engines.mock_wishes import Wishes
from ias_inference.domain.engines import Job

encode = msgspec.json.encode


class Form(Protocol):
    """One answer in the form of its operation. Made for one request."""

    def token(self, index: int, text: str) -> list[bytes]:
        """The events that tell the next token of an answer."""
        ...

    def ends(self) -> list[bytes]:
        """The events that end a stream."""
        ...

    def whole(self, texts: Sequence[str]) -> bytes:
        """The whole answer, of what each said."""
        ...


class ChatForm:
    """`chat.completion` and its chunks."""

    def __init__(self, job: Job, answers: Sequence[Answer], wishes: Wishes) -> None:
        self._job, self._answers, self._wishes = job, answers, wishes
        self._begun: set[int] = set()

    def token(self, index: int, text: str) -> list[bytes]:
        """One chunk; the first of an answer tells who speaks, or which tool is called."""
        first = index not in self._begun
        self._begun.add(index)
        delta: dict[str, object] = {"role": "assistant"} if first else {}
        if self._wishes.tool:
            delta["tool_calls"] = [self._call(index, text, first=first)]
        else:
            delta["content"] = text
        return [self._chunk(index, delta, text, None)]

    def ends(self) -> list[bytes]:
        """A chunk that ends each answer, and the usage if asked for."""
        ends = [
            self._chunk(index, {}, None, answer.finish_reason)
            for index, answer in enumerate(self._answers)
        ]
        if self._job.request.include_usage:
            ends.append(
                encode(head(self._job, "chat.completion.chunk", []) | {"usage": usage(self._job)})
            )
        return ends

    def whole(self, texts: Sequence[str]) -> bytes:
        """A `chat.completion`."""
        choices = []
        for index, (text, answer) in enumerate(zip(texts, self._answers, strict=True)):
            message: dict[str, object] = {"role": "assistant", "content": text, "refusal": None}
            if self._wishes.tool:
                call = self._call(index, text, first=True)
                del call["index"]
                message |= {"content": None, "tool_calls": [call]}
            logprobs = chat_logprobs(answer.tokens, self._wishes.logprobs)
            choices.append(
                {
                    "index": index,
                    "message": message,
                    "logprobs": logprobs,
                    "finish_reason": answer.finish_reason,
                }
            )
        return encode(head(self._job, "chat.completion", choices) | {"usage": usage(self._job)})

    def _call(self, index: int, text: str, *, first: bool) -> dict[str, object]:
        if not first:
            return {"index": 0, "function": {"arguments": text}}
        return {
            "index": 0,
            "id": call_id(self._job, index),
            "type": "function",
            "function": {"name": self._wishes.tool, "arguments": text},
        }

    def _chunk(
        self, index: int, delta: dict[str, object], token: str | None, finish_reason: str | None
    ) -> bytes:
        logprobs = None if token is None else chat_logprobs([token], self._wishes.logprobs)
        choice: dict[str, object] = {
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        chunk = head(self._job, "chat.completion.chunk", [choice])
        if self._job.request.include_usage:
            chunk["usage"] = None
        return encode(chunk)


class CompletionForm:
    """`text_completion`, whole and as chunks."""

    def __init__(
        self, job: Job, answers: Sequence[Answer], wishes: Wishes, prompts: Sequence[str]
    ) -> None:
        self._job, self._answers, self._wishes = job, answers, wishes
        self._echoes = list(prompts) if wishes.echo else [""] * len(prompts)
        self._offsets: dict[int, int] = {}

    def token(self, index: int, text: str) -> list[bytes]:
        """One chunk; the first of an answer begins with the prompt if asked for."""
        said = text if index in self._offsets else self._echo(index) + text
        at = self._offsets.setdefault(index, len(self._echo(index)))
        self._offsets[index] = at + len(text)
        return [self._chunk(index, said, self._logprobs([text], at), None)]

    def ends(self) -> list[bytes]:
        """A chunk that ends each answer, and the usage if asked for."""
        ends = []
        for index, answer in enumerate(self._answers):
            said = "" if index in self._offsets else self._echo(index)
            ends.append(self._chunk(index, said, None, answer.finish_reason))
        if self._job.request.include_usage:
            ends.append(
                encode(head(self._job, "text_completion", []) | {"usage": usage(self._job)})
            )
        return ends

    def whole(self, texts: Sequence[str]) -> bytes:
        """A `text_completion`."""
        choices: list[dict[str, object]] = [
            {
                "index": index,
                "text": self._echo(index) + text,
                "logprobs": self._logprobs(answer.tokens, len(self._echo(index))),
                "finish_reason": answer.finish_reason,
            }
            for index, (text, answer) in enumerate(zip(texts, self._answers, strict=True))
        ]
        return encode(head(self._job, "text_completion", choices) | {"usage": usage(self._job)})

    def _echo(self, index: int) -> str:
        return self._echoes[index // self._job.request.n]

    def _logprobs(self, tokens: Sequence[str], offset: int) -> dict[str, object] | None:
        most = self._wishes.logprobs
        if most is None:
            return None
        offsets, tops = [], []
        for token in tokens:
            offsets.append(offset)
            offset += len(token)
            tops.append(dict(likely(token, most)))
        return {
            "tokens": list(tokens),
            "token_logprobs": [logprob(token) for token in tokens],
            "top_logprobs": tops if most else None,
            "text_offset": offsets,
        }

    def _chunk(self, index: int, text: str, logprobs: object, finish_reason: str | None) -> bytes:
        choice: dict[str, object] = {
            "index": index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        chunk = head(self._job, "text_completion", [choice])
        if self._job.request.include_usage:
            chunk["usage"] = None
        return encode(chunk)


def head(job: Job, kind: str, choices: Sequence[dict[str, object]]) -> dict[str, object]:
    """What every object of an answer begins with."""
    return {
        "id": job.completion_id,
        "object": kind,
        "created": job.created,
        "model": job.model.name,
        "choices": choices,
    }


def usage(job: Job) -> dict[str, object]:
    """What it took, in OpenAI's form."""
    used = job.usage
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.total_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def call_id(job: Job, index: int) -> str:
    """The id of an answer's tool call."""
    return f"call_{job.completion_id[-24:]}{index}"


def logprob(token: str) -> float:
    """How likely a token was: the same for the same token."""
    return -(1 + sum(token.encode()) % 100) / 200


def likely(token: str, most: int) -> list[tuple[str, float]]:
    """The likely tokens in the place of one, itself first."""
    own = logprob(token)
    others = [word for word in mock_plan.likely_tokens(len(token)) if word != token]
    ranked = [(word, own - math.log(rank + 2)) for rank, word in enumerate(others[: most - 1])]
    return [(token, own), *ranked] if most else []


def chat_logprobs(tokens: Sequence[str], most: int | None) -> dict[str, object] | None:
    """Log-probabilities in a chat's form; None if not asked for."""
    if most is None:
        return None
    content = [
        _told(token, logprob(token))
        | {"top_logprobs": [_told(*one) for one in likely(token, most)]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _told(token: str, probability: float) -> dict[str, object]:
    return {"token": token, "logprob": probability, "bytes": list(token.encode())}
