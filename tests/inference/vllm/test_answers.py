"""The JSON that is put together by hand is JSON, and what OpenAI's own types accept."""

import json
from datetime import UTC, datetime

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from ias_inference.adapters.engines.vllm import answers
from ias_inference.domain.engines import Job, Operation, Request
from ias_inference.domain.models import Backend, EngineKind, Model
from ias_inference.domain.usage import Usage

TEXT = 'He said "hi"\n\t\u0000\u2028 🌍 \\ </script>'


def job(operation: Operation, *, include_usage: bool = False) -> Job:
    backend = Backend(EngineKind.VLLM, "grpc://127.0.0.1:1", "tiny")
    usage = Usage(
        event_id="e",
        occurred_at=datetime.now(UTC),
        organization_id="o",
        user_id="u",
        api_key_id="k",
        model='a "model"',
        operation=operation.value,
        request_id="r",
        streamed=False,
        prompt_tokens=3,
        completion_tokens=4,
        cached_tokens=2,
    )
    return Job(
        model=Model('a "model"', (backend,)),
        backend=backend,
        request=Request(operation, 'a "model"', {}, 1, include_usage=include_usage),
        completion_id="chatcmpl-1",
        created=123,
        usage=usage,
        prompt_tokens=3,
        max_tokens=4,
    )


def test_a_whole_chat() -> None:
    answer = ChatCompletion.model_validate_json(
        answers.whole(job(Operation.CHAT), TEXT, "stop", "END"), strict=True
    )
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == 'a "model"'
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (3, 7)


def test_a_whole_completion() -> None:
    answer = Completion.model_validate_json(
        answers.whole(job(Operation.COMPLETION), TEXT, "length", None)
    )
    assert answer.choices[0].text == TEXT
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("include_usage", [False, True])
def test_the_chunks_of_a_chat(include_usage: bool) -> None:
    asked = job(Operation.CHAT, include_usage=include_usage)
    chunks = answers.Chunks(asked)
    sent = [*chunks.opening(), chunks.text(TEXT), chunks.last("!", "stop", 5)]
    seen = [ChatCompletionChunk.model_validate_json(chunk) for chunk in sent]
    assert seen[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in seen) == TEXT + "!"
    assert [chunk.choices[0].finish_reason for chunk in seen] == [None, None, "stop"]
    assert all(("usage" in json.loads(chunk)) == include_usage for chunk in sent)
    last = ChatCompletionChunk.model_validate_json(chunks.usage(asked))
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 4


def test_the_chunks_of_a_completion() -> None:
    chunks = answers.Chunks(job(Operation.COMPLETION))
    assert chunks.opening() == []
    seen = [json.loads(chunk) for chunk in (chunks.text("a"), chunks.last("b", "stop", None))]
    assert [chunk["choices"][0]["text"] for chunk in seen] == ["a", "b"]
    assert seen[0]["object"] == "text_completion"
