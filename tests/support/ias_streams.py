"""Many streams at once, as their clients see them: whole or broken, and when the first token came."""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from ias.inference.v1 import chat_pb2

STREAMS_PER_CONNECTION = 100
"""What Envoy allows; a client with more opens another connection."""


@dataclass(slots=True)
class Seen:
    """One stream."""

    began: float = 0.0
    first_token_s: float = 0.0
    tokens: int = 0
    ended: bool = False
    """Whether it ended as it should: a finish reason and, over HTTP, `[DONE]`."""
    failure: str = ""


@dataclass(slots=True)
class Crowd:
    """What many streams gave."""

    streams: list[Seen]
    most_at_once: int

    @property
    def broken(self) -> list[str]:
        return [s.failure or f"ended after {s.tokens}" for s in self.streams if not s.ended]

    def first_token_s(self, share: float) -> float:
        """The time within which this share of the streams had its first token."""
        waited = sorted(s.first_token_s for s in self.streams)
        return waited[min(len(waited) - 1, int(share * len(waited)))]


async def over_http(host: str, port: int, key: str, body: dict[str, object], count: int,
                    per_second: float) -> Crowd:  # fmt: skip
    """Server-sent events over HTTP/1.1, a connection for each stream, open before the first begins."""
    content = json.dumps(body | {"stream": True}).encode()
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}:{port}\r\n"
        f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    ).encode() + content
    connections = [await asyncio.open_connection(host, port) for _ in range(count)]

    async def one(number: int, seen: Seen) -> None:
        reader, writer = connections[number]
        writer.write(request)
        tail = b""
        while not tail.endswith(b"0\r\n\r\n"):
            got = await reader.read(65536)
            if not got:
                raise ConnectionError(f"closed: {tail!r}")
            if not seen.first_token_s:
                if not got.startswith(b"HTTP/1.1 200"):
                    raise ConnectionError(got[:300].decode(errors="replace"))
                if b"data: " not in got:
                    continue
                seen.first_token_s = time.perf_counter() - seen.began
            seen.tokens += got.count(b'"content":"')
            tail = (tail + got)[-200:]
        seen.ended = b"data: [DONE]\n\n" in tail

    try:
        return await _all(one, count, per_second)
    finally:
        for _, writer in connections:
            writer.close()
        await asyncio.gather(*(w.wait_closed() for _, w in connections), return_exceptions=True)


async def over_grpc(target: str, key: str, model: str, text: str, count: int,
                    per_second: float) -> Crowd:  # fmt: skip
    """Typed gRPC over HTTP/2, as many streams to a connection as Envoy allows."""
    request = chat_pb2.StreamChatRequest(
        model=model,
        messages=[chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=text)],
    ).SerializeToString()
    channels = [
        # Without a pool of its own, channels to one address share a connection.
        grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(-(-count // STREAMS_PER_CONNECTION))
    ]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    calls = [
        channel.unary_stream(
            "/ias.inference.v1.ChatService/StreamChat",
            response_deserializer=chat_pb2.StreamChatResponse.FromString,
        )
        for channel in channels
    ]
    metadata = (("authorization", f"Bearer {key}"),)

    async def one(number: int, seen: Seen) -> None:
        piece = None
        async for piece in calls[number % len(calls)](request, metadata=metadata):
            seen.first_token_s = seen.first_token_s or time.perf_counter() - seen.began
            seen.tokens += bool(piece.content)
        seen.ended = piece is not None and piece.usage.completion_tokens == seen.tokens

    try:
        return await _all(one, count, per_second)
    finally:
        for channel in channels:
            await channel.close()


async def _all(one: Callable[[int, Seen], Awaitable[None]], count: int, per_second: float) -> Crowd:
    """Begins them at an even rate; a stream that fails doesn't disturb the others."""
    streams = [Seen() for _ in range(count)]
    running = most = 0
    start = time.perf_counter()

    async def run(number: int) -> None:
        nonlocal running, most
        await asyncio.sleep(start + number / per_second - time.perf_counter())
        seen = streams[number]
        running += 1
        most = max(most, running)
        seen.began = time.perf_counter()
        try:
            await one(number, seen)
        except (OSError, grpc.RpcError) as error:
            seen.failure = repr(error)
        finally:
            running -= 1

    await asyncio.gather(*map(run, range(count)))
    return Crowd(streams, most)


def resident_mib(pids: Sequence[int]) -> float:
    """Memory that these processes hold, in MiB."""
    kib = 0
    for pid in pids:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        kib += int(found[1]) if found else 0
    return kib / 1024
