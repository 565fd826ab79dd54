"""CPU per request of one inference process: `python tests/bench/inference.py [--profile FILE]`.

A static OpenAI server, the service with unlimited leases and a recorder that keeps nothing, and a
client, each in a process of its own. Prints requests/s and what the service's process used.
"""

import argparse
import asyncio
import cProfile
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import grpc
import ias_testing
from google.api.httpbody_pb2 import HttpBody
from ias.inference.v1 import openai_pb2_grpc
from inference_support import FakeLeases, MemoryRecorder, a_caller, a_gateway

BODY = (
    b'{"model":"up","messages":[{"role":"system","content":"You are a helpful assistant."},'
    b'{"role":"user","content":"Say something about the sea, in a sentence."}],"max_tokens":64%s}'
)
_ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"inner","choices":'
    b'[{"index":0,"message":{"role":"assistant","content":"The sea is wide and old."},'
    b'"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":24,"completion_tokens":7,'
    b'"total_tokens":31}}'
)
_CHUNKS = 64
_CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"inner",'
    b'"choices":[{"index":0,"delta":{"content":" sea"},"logprobs":null,"finish_reason":%s}],'
    b'"usage":{"prompt_tokens":24,"completion_tokens":%d,"total_tokens":31}}\n\n'
)
_STREAM = (
    b"".join(_CHUNK % (b"null", i + 1) for i in range(_CHUNKS - 1))
    + _CHUNK % (b'"stop"', _CHUNKS)
    + b"data: [DONE]\n\n"
)


class _Static(asyncio.Protocol):
    """Answers every request alike, as soon as its body is there."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) < length:
            return
        self._data = b""
        streamed = b'"stream":true' in body
        answer = _STREAM if streamed else _ANSWER
        kind = b"text/event-stream" if streamed else b"application/json"
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s"
            % (kind, len(answer), answer)
        )


class _Forgetful(MemoryRecorder):
    async def record(self, usage: Any) -> None:
        pass

    def checkpoint(self, usage: Any) -> None:
        pass


class _Unlimited(FakeLeases):
    def settle(self, draw: Any, used: int) -> None:
        self.open.clear()


def _upstream(connection: Any) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_Static, "127.0.0.1", 0)
        connection.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


def _service(connection: Any, port: int, keys: tuple[str, str], profile: str) -> None:
    ias_testing.PRIVATE_KEY, ias_testing.PUBLIC_KEY = keys

    async def serve() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        async with a_gateway(_Unlimited(), recorder=_Forgetful()) as gateway:
            from ias_inference.domain.models import EngineKind

            gateway.register("up", f"http://127.0.0.1:{port}/v1", EngineKind.OPENAI)
            connection.send(gateway.address)
            await stop.wait()

    if profile:
        profiler = cProfile.Profile()
        profiler.runcall(asyncio.run, serve())
        profiler.dump_stats(profile)
    else:
        asyncio.run(serve())


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _load(address: str, body: bytes, connections: int, seconds: float) -> tuple[int, float]:
    request = HttpBody(content_type="application/json", data=body)
    metadata = ias_testing.signed(a_caller("up"), x_request_id="r")
    done = 0

    async def one(until: float) -> None:
        nonlocal done
        async with grpc.aio.insecure_channel(address) as channel:
            stub = openai_pb2_grpc.OpenAIServiceStub(channel)
            while time.perf_counter() < until:
                parts = [p async for p in stub.CreateChatCompletion(request, metadata=metadata)]
                assert parts, "no answer"
                done += 1

    started = time.perf_counter()
    await asyncio.gather(*(one(started + seconds) for _ in range(connections)))
    return done, time.perf_counter() - started


async def _measure(address: str, pid: int, seconds: float) -> None:
    print(f"{'':>10} {'clients':>8} {'req/s':>8} {'CPU µs/req':>11} {'chunks/s of CPU':>16}")
    for name, extra in (("whole", b""), ("streamed", b',"stream":true')):
        for connections in (1, 16):
            await _load(address, BODY % extra, connections, 0.5)
            before = _cpu_s(pid)
            done, took_s = await _load(address, BODY % extra, connections, seconds)
            used_s = _cpu_s(pid) - before
            chunks = f"{done * _CHUNKS / used_s:16,.0f}" if extra else ""
            print(
                f"{name:>10} {connections:>8} {done / took_s:8,.0f} {used_s / done * 1e6:11,.0f}"
                f" {chunks}"
            )


@asynccontextmanager
async def _process(target: Any, *arguments: Any) -> AsyncIterator[tuple[Any, int]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments))
    process.start()
    try:
        yield await asyncio.to_thread(ours.recv), process.pid or 0
    finally:
        process.terminate()
        process.join()


async def main() -> None:
    """Starts all, measures, ends all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--profile", default="", help="write cProfile's statistics to this file")
    arguments = parser.parse_args()
    keys = ias_testing.PRIVATE_KEY, ias_testing.PUBLIC_KEY
    async with (
        _process(_upstream) as (port, _),
        _process(_service, port, keys, arguments.profile) as (address, pid),
    ):
        await _measure(address, pid, arguments.seconds)


if __name__ == "__main__":
    asyncio.run(main())
