"""The HTTP client against servers that say exactly what each test lays down, byte for byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ias_inference.adapters.http1 import Client, Disconnected, Endpoint, HttpError, Stalled
from ias_inference.adapters.http1 import client as client_module

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[str]:
    """A server's URL."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as running:
        yield f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}/v1/chat"


async def request_of(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(length)


def answering(*answers: bytes, close: bool = True) -> Serve:
    """Answers each request of a connection in turn."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await request_of(reader)
            writer.write(answer)
            await writer.drain()
        if not close:
            await reader.read()

    return serve


async def whole(client: Client, endpoint: Endpoint, patience_s: float = 5) -> tuple[int, bytes]:
    response = await client.post(endpoint, b"{}", patience_s)
    try:
        body = b""
        while data := await response.read():
            body += data
        return response.status, body
    finally:
        client.release(endpoint, response)


async def test_a_request_goes_out_as_it_was_given() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request_of(reader))
        writer.write(PLAIN)

    async with server(serve) as url, Client() as client:
        endpoint = Endpoint(url + "/ä b", {"Authorization": "Bearer k"})
        response = await client.post(endpoint, b'{"a": 1}', 5)
        assert (response.status, await response.read()) == (200, b"hello")
    [(head, body)] = seen
    assert head.startswith(b"POST /v1/chat/%C3%A4%20b HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nAuthorization: Bearer k\r\n" in head
    assert body == b'{"a": 1}'


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (PLAIN, b"hello"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
         b"hello"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nolder", b"older"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN, b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
    ids=["length", "chunks", "until the end", "1.0", "announced", "no content"],
)  # fmt: skip
async def test_a_body_ends_where_its_server_says(answer: bytes, body: bytes) -> None:
    async with server(answering(answer)) as url, Client() as client:
        assert (await whole(client, Endpoint(url, {})))[1] == body


async def test_a_connection_is_kept_and_used_again() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(PLAIN, PLAIN, PLAIN)(reader, writer)

    async with server(serve) as url, Client() as client:
        for _ in range(3):
            assert await whole(client, Endpoint(url, {})) == (200, b"hello")
    assert connections == 1


async def test_a_kept_connection_that_the_server_closed_costs_no_request() -> None:
    async with server(answering(PLAIN)) as url, Client() as client:
        for _ in range(5):
            assert await whole(client, Endpoint(url, {})) == (200, b"hello")


async def test_an_idle_connection_is_closed_before_servers_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "KEEPALIVE_S", 0.05)
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(PLAIN)(reader, writer)
        await reader.read()
        closed.set()

    async with server(serve) as url, Client() as client:
        await whole(client, Endpoint(url, {}))
        await asyncio.wait_for(closed.wait(), 5)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
    ids=["length", "chunks"],
)
async def test_an_answer_that_breaks_off_gives_what_came_and_then_fails(answer: bytes) -> None:
    async with server(answering(answer)) as url, Client() as client:
        endpoint = Endpoint(url, {})
        response = await client.post(endpoint, b"{}", 5)
        assert await response.read() == b"hello"
        with pytest.raises(Disconnected):
            await response.read()
        client.release(endpoint, response)


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n", b""])
async def test_what_is_no_http_answer_fails(answer: bytes) -> None:
    async with server(answering(answer)) as url, Client() as client:
        with pytest.raises(HttpError):
            await client.post(Endpoint(url, {}), b"{}", 5)


async def test_nothing_listens() -> None:
    async with Client() as client:
        with pytest.raises(HttpError, match="no connection"):
            await client.post(Endpoint("http://127.0.0.1:1/", {}), b"{}", 5)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"])
async def test_silence_ends_when_patience_does(head: bytes) -> None:
    async with server(answering(head, close=False)) as url, Client() as client:
        with pytest.raises(Stalled):
            await whole(client, Endpoint(url, {}), patience_s=0.2)


async def test_a_request_that_is_cancelled_closes_its_connection() -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await request_of(reader)
        asked.set()
        await reader.read()
        gone.set()

    async with server(serve) as url, Client() as client:
        request = asyncio.create_task(client.post(Endpoint(url, {}), b"{}", 60))
        await asyncio.wait_for(asked.wait(), 5)
        request.cancel()
        await asyncio.wait_for(gone.wait(), 5)
        with pytest.raises(asyncio.CancelledError):
            await request


async def test_a_server_waits_for_a_slow_reader() -> None:
    size = 64 * 1024 * 1024
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    async with server(serve) as url, Client() as client:
        endpoint = Endpoint(url, {})
        response = await client.post(endpoint, b"{}", 5)
        before = -1
        while sent != before:  # until the server can send no more
            before = sent
            await asyncio.sleep(0.1)
        assert sent < size // 2
        read = 0
        while data := await response.read():
            read += len(data)
        assert read == size
        client.release(endpoint, response)


@pytest.mark.parametrize("url", ["ftp://host/", "http:///path", "no url"])
def test_what_cannot_be_posted_to_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Endpoint(url, {})


def test_a_header_can_not_smuggle_another() -> None:
    with pytest.raises(ValueError):
        Endpoint("http://host/", {"Authorization": "a\r\nX-Other: b"})
