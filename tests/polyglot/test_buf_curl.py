"""`buf curl`, with the contracts at hand, gets what the compiled clients get."""

import asyncio
import base64
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from google.rpc import error_details_pb2
from ias_flow import ROOT

pytestmark = pytest.mark.slow
CHAT = "ias.inference.v1.ChatService/Chat"
STREAM = "ias.inference.v1.ChatService/StreamChat"
EXIT = {"DEADLINE_EXCEEDED": 4 << 3, "RESOURCE_EXHAUSTED": 8 << 3, "UNAUTHENTICATED": 16 << 3}
"""What buf exits with: the status code, times eight."""


@dataclass(frozen=True)
class Buf:
    """`buf curl` with a key."""

    program: str
    address: str
    model: str
    key: str

    async def start(
        self, method: str, text: str, *options: str, key: str = ""
    ) -> asyncio.subprocess.Process:
        """A call under way."""
        body = {"model": self.model, "messages": [{"role": "CHAT_ROLE_USER", "content": text}]}
        return await asyncio.create_subprocess_exec(
            self.program, "curl", "--protocol", "grpc", "--http2-prior-knowledge",
            "--schema", str(ROOT), "-H", f"authorization: Bearer {key or self.key}", *options,
            "-d", json.dumps(body), f"http://{self.address}/{method}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    async def ask(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        """The one answer to any request."""
        process = await asyncio.create_subprocess_exec(
            self.program, "curl", "--protocol", "grpc", "--http2-prior-knowledge",
            "--schema", str(ROOT), "-H", f"authorization: Bearer {self.key}",
            "-d", json.dumps({"model": self.model, **body}), f"http://{self.address}/{method}",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0
        found: dict[str, Any] = json.loads(out)
        return found

    async def run(
        self, method: str, text: str, *options: str, key: str = ""
    ) -> tuple[int, list[dict[str, Any]], str]:
        """Exit status, the messages of the answer, what it says about a failure."""
        process = await self.start(method, text, *options, key=key)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, list(documents(out.decode())), err.decode()


def documents(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects one after the other."""
    decoder, at = json.JSONDecoder(), 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        found, at = decoder.raw_decode(text, at)
        yield found


def detail(told: dict[str, Any], kind: Any) -> Any:
    """One of the details of a failure, decoded."""
    (packed,) = (d for d in told["details"] if d["type"] == kind.DESCRIPTOR.full_name)
    return kind.FromString(base64.b64decode(packed["value"] + "=="))


@pytest.fixture
def buf(stack: Any) -> Buf:
    return Buf(stack.buf, stack.grpc, stack.model, stack.api_key)


async def test_a_chat_is_answered(buf):
    code, (answer,), _ = await buf.run(CHAT, "[mock tokens=9]")
    assert code == 0
    assert len(answer["message"]["content"].split()) == 9
    assert answer["finishReason"] == "FINISH_REASON_STOP"
    assert answer["usage"]["completionTokens"] == "9"


async def test_a_text_is_completed_and_embedded(buf):
    completed = await buf.ask(
        "ias.inference.v1.CompletionService/Complete", {"text": "[mock tokens=9]"}
    )
    assert completed["usage"]["completionTokens"] == "9"
    embedded = await buf.ask(
        "ias.inference.v1.EmbeddingService/Embed", {"texts": ["apples"], "dimensions": 8}
    )
    assert len(embedded["embeddings"][0]["values"]) == 8


async def test_a_stream_is_printed_piece_by_piece(buf):
    process = await buf.start(STREAM, "[mock tokens=10 pace_ms=40]")
    assert process.stdout is not None
    arrivals, lines = [], []
    async for line in process.stdout:
        lines.append(line.decode())
        if '"content"' in lines[-1]:
            arrivals.append(time.perf_counter())
    assert await process.wait() == 0
    assert len(arrivals) == 10
    assert arrivals[-1] - arrivals[0] > 0.2, "printed as they came"
    assert list(documents("".join(lines)))[-1]["usage"]["completionTokens"] == "10"


async def test_a_wrong_key_is_unauthenticated_with_a_reason(buf):
    code, answers, told = await buf.run(CHAT, "hi", key="ias_" + "a" * 52)
    assert (code, answers) == (EXIT["UNAUTHENTICATED"], [])
    failure = json.loads(told)
    assert failure["code"] == "unauthenticated"
    info = detail(failure, error_details_pb2.ErrorInfo)
    assert (info.domain, info.reason) == ("ias", "INVALID_CREDENTIAL")


async def test_a_deadline_ends_the_call_and_the_engine(buf, stack):
    code, answers, _ = await buf.run(STREAM, "[mock tokens=5000 pace_ms=50]", "--timeout", "1500ms")
    assert code == EXIT["DEADLINE_EXCEEDED"]
    assert answers, "what came before it is printed"
    await stack.mock_idle(seconds=2)


async def test_interrupting_it_frees_the_engine(buf, stack):
    team = stack.new_team()
    before = stack.mock_counters()
    process = await buf.start(STREAM, "[mock tokens=5000 pace_ms=20]", key=team.key)
    assert process.stdout is not None
    while b'"content"' not in await process.stdout.readline():
        pass
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does on Ctrl-C: buf runs below a script
    await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode != 0
    await stack.mock_idle(seconds=2)
    prompt, completion = (
        after - before for after, before in zip(stack.mock_counters(), before, strict=True)
    )
    assert 1 <= completion < 500
    await stack.usage_becomes(team, (1, prompt, completion), seconds=15)


async def test_a_used_up_budget_says_which_and_until_when(buf, stack):
    team = stack.new_team()
    stack.admin("budget", "set", "--org", team.org, "--tokens", "1")
    code, answers, told = await buf.run(CHAT, "hi", key=team.key)
    assert (code, answers) == (EXIT["RESOURCE_EXHAUSTED"], [])
    failure = json.loads(told)
    info = detail(failure, error_details_pb2.ErrorInfo)
    assert info.reason == "INSUFFICIENT_QUOTA"
    assert info.metadata["scope"] == "organization"
    (broken,) = detail(failure, error_details_pb2.QuotaFailure).violations
    assert broken.subject == "organization"
    assert broken.description == failure["message"]
