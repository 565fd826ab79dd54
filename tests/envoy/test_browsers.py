"""Pages of an allowed origin call over REST and gRPC-Web; others can't read an answer."""

import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from ias.inference.v1 import chat_pb2
from ias_front import KEY, ORIGIN, Front, model_of

CHAT = "/ias.inference.v1.ChatService/Chat"


def frame(message: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(message)) + message


def from_text(received: bytes) -> bytes:
    """Each frame is base64 of its own, with its own padding."""
    return b"".join(base64.b64decode(received[at : at + 4]) for at in range(0, len(received), 4))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/users", CHAT])
async def test_a_preflight_needs_no_key(front: Front, path: str) -> None:
    headers = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-grpc-web",
    }
    async with front.http.options(front.url(path), headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        allowed = answer.headers["access-control-allow-headers"]
    assert all(name in allowed for name in ("authorization", "content-type", "x-grpc-web"))
    assert front.authorization.checks == []


async def test_a_page_may_read_the_answer_and_its_headers(front: Front) -> None:
    async with front.chat(headers={"origin": ORIGIN}) as answer:
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        exposed = answer.headers["access-control-expose-headers"]
    assert "x-request-id" in exposed
    assert "grpc-status" in exposed


async def test_a_page_may_read_why_it_was_refused(front: Front) -> None:
    url = front.url("/v1/chat/completions")
    async with front.http.post(url, json={}, headers={"origin": ORIGIN}) as answer:
        assert answer.status == 401
        assert answer.headers["access-control-allow-origin"] == ORIGIN


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ORIGIN + ".evil.example"])
async def test_other_origins_are_told_nothing(front: Front, origin: str) -> None:
    async with front.chat(headers={"origin": origin}) as answer:
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
async def test_grpc_web_calls_like_native_grpc(front: Front, text: bool) -> None:
    async def answer(_: bytes, __: Any) -> AsyncIterator[bytes]:
        yield chat_pb2.ChatResponse(id="1").SerializeToString()

    front.inference.behaviours["Chat"] = answer
    body = frame(chat_pb2.ChatRequest(model="org/m").SerializeToString())
    content_type = "application/grpc-web-text" if text else "application/grpc-web+proto"
    headers = {
        "authorization": KEY,
        "accept": content_type,
        "content-type": content_type,
        "x-grpc-web": "1",
        "origin": ORIGIN,
    }
    sent = base64.b64encode(body) if text else body
    async with front.http.post(front.url(CHAT), data=sent, headers=headers) as response:
        assert response.status == 200
        assert response.headers["access-control-allow-origin"] == ORIGIN
        received = await response.read()
    received = from_text(received) if text else received
    first = frame(chat_pb2.ChatResponse(id="1").SerializeToString())
    assert received.startswith(first)
    trailers = received[len(first) :]
    assert trailers[0] == 0x80
    assert b"grpc-status:0" in trailers.replace(b" ", b"")
    assert [model_of(check) for check in front.authorization.checks] == ["org/m"]


async def test_grpc_web_is_refused_in_its_own_way(front: Front) -> None:
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    async with front.http.post(front.url(CHAT), data=frame(b""), headers=headers) as response:
        assert response.headers["content-type"] == "application/grpc-web+proto"
        assert response.headers["grpc-status"] == "16"
    assert front.reached == []
