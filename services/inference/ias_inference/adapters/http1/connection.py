"""One HTTP/1.1 connection: one answer after another, read as it comes."""

import asyncio
import math

import httptools

from ias_inference.adapters.http1.errors import Disconnected, HttpError, Stalled

_BUFFER_BYTES = 1024 * 1024
"""Unread bytes of an answer at which the server is made to wait."""
_LEAST_ANSWER = 200
"""Statuses below are announcements; the answer comes after them."""


class Connection(asyncio.Protocol):
    """A connection, and the answer that comes over it. For one task at a time."""

    __slots__ = (
        "_error",
        "_head",
        "_loop",
        "_parser",
        "_paused",
        "_pieces",
        "_transport",
        "_unread_bytes",
        "_waiter",
        "complete",
        "heard_at",
        "idle_since",
        "patience_s",
        "reusable",
        "status",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: HttpError | None = None
        self.idle_since = 0.0
        self.reusable = False
        """Whether the server will take another request after the one that is complete."""
        self._begin()
        self.complete = True  # nothing was asked yet

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._unread_bytes = 0
        self._paused = False
        self._head = b""
        self.status = 0
        """Of the answer; 0 before it has come."""
        self.complete = False
        """Whether all of the answer has come; some of it may be unread."""
        self.heard_at = 0.0
        self.patience_s = math.inf
        """How long `read` waits for the next bytes."""

    async def send(self, request: bytes, patience_s: float) -> None:
        """Sends a request and waits for the head of its answer. Raises HttpError."""
        self._begin()
        self.patience_s = patience_s
        if self._transport is None or self._error is not None:
            raise self._error or Disconnected(answered=False)
        self._transport.write(request)
        while not self.status:
            await self._more()

    async def read(self) -> bytes:
        """The bytes of the body that have come by now, at least one; empty at its end.

        Raises HttpError when the answer breaks off; what came before it is given out first.
        """
        while not self._pieces:
            if self.complete:
                return b""
            await self._more()
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        self._unread_bytes = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    @property
    def at_end(self) -> bool:
        """Whether all of the answer was read."""
        return self.complete and not self._pieces

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and self._error is None

    def is_stalled(self, now: float) -> bool:
        """Whether a task has waited for longer than its patience."""
        return self._waiter is not None and now - self.heard_at > self.patience_s

    def close(self) -> None:
        """Closes the connection at once, which stops the server."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def fail(self, error: HttpError) -> None:
        """Ends the answer with an error."""
        if self._error is None:
            self._error = error
        self.close()
        self._wake()

    async def _more(self) -> None:
        """Waits for bytes. Raises HttpError."""
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        self.heard_at = self._loop.time()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Parses what has come."""
        if self.complete:  # nobody asked
            self.reusable = False
            self.close()
            return
        if not self.status:
            self._head += data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fail(HttpError(f"no HTTP answer: {error!r}"))
            return
        if self.status or self._error is not None:
            self._wake()

    def eof_received(self) -> None:
        """Nothing more will come: the end of an answer that has no stated length."""
        if self.status and not self.complete and not _states_length(self._head):
            self.complete = True
            self.reusable = False
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """Tells who waits."""
        self._transport = None
        self.reusable = False
        if not self.complete:
            self.fail(Disconnected(answered=bool(self._head)))

    # What the parser calls.

    def on_headers_complete(self) -> None:
        """The head of an answer, or of an announcement before it."""
        status = self._parser.get_status_code()
        if self.complete:  # a second answer to one request, in the same bytes
            self.fail(HttpError("an answer that nobody asked for"))
        elif status >= _LEAST_ANSWER:
            self.status = status
        else:
            self._head = b""

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self.complete:
            return
        self._pieces.append(body)
        self._unread_bytes += len(body)
        if self._unread_bytes >= _BUFFER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The end of an answer."""
        if self.status and not self.complete:
            self.complete = True
            self.reusable = self._parser.should_keep_alive()


def _states_length(head: bytes) -> bool:
    """Whether an answer says how long it is, so that the end of the connection is not its end."""
    headers = head.partition(b"\r\n\r\n")[0].lower()
    return b"\r\ncontent-length:" in headers or b"\r\ntransfer-encoding:" in headers


def stalled(connection: Connection) -> Stalled:
    """What a connection fails with that was silent for too long."""
    return Stalled(f"nothing came for {connection.patience_s:g} s")
