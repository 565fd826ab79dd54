"""A pool of connections that are kept for the next request to the same server."""

import asyncio
from collections import defaultdict
from types import TracebackType
from typing import Self

from ias_inference.adapters.http1.connection import Connection, stalled
from ias_inference.adapters.http1.endpoint import Endpoint
from ias_inference.adapters.http1.errors import Disconnected, HttpError

CONNECT_S = 5.0
KEEPALIVE_S = 4.0
"""Less than the 5 s after which uvicorn, under vLLM and others, closes an idle connection."""
_SWEEP_S = 0.25
"""How often connections are looked after, and how late a stall may be noticed. One timer for all
is cheaper than one for each read of a stream.
"""


class Client:
    """Posts requests. An async context manager; closing it closes every connection."""

    def __init__(self) -> None:
        self._idle: defaultdict[tuple[str, int, bool], list[Connection]] = defaultdict(list)
        self._busy: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop
        self._sweep: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._look_after()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in [*self._busy, *(one for idle in self._idle.values() for one in idle)]:
            connection.close()

    async def post(self, endpoint: Endpoint, body: bytes, patience_s: float) -> Connection:
        """Sends a request; returns when the head of the answer is there.

        Whoever gets the connection gives it back with `release`. A request is sent again, over
        a new connection, when the server had just closed the idle one that was chosen for it.
        There is at most `patience_s` between two signs of life from the server. Raises HttpError.
        """
        request = endpoint.post(body)
        connection = self._kept(endpoint)
        if connection is not None:
            try:
                return await self._send(connection, request, patience_s)
            except Disconnected as error:
                if error.answered:
                    raise
        connection = await self._connect(endpoint)
        return await self._send(connection, request, patience_s)

    def release(self, endpoint: Endpoint, connection: Connection) -> None:
        """Keeps a connection whose answer was read to its end; closes any other."""
        self._busy.discard(connection)
        if connection.at_end and connection.reusable and connection.is_open:
            connection.idle_since = self._loop.time()
            self._idle[endpoint.address].append(connection)
        else:
            connection.close()

    async def _send(self, connection: Connection, request: bytes, patience_s: float) -> Connection:
        self._busy.add(connection)
        try:
            await connection.send(request, patience_s)
        except BaseException:
            self._busy.discard(connection)
            connection.close()
            raise
        return connection

    def _kept(self, endpoint: Endpoint) -> Connection | None:
        idle = self._idle.get(endpoint.address)
        if not idle:
            return None
        youngest = self._loop.time() - KEEPALIVE_S
        while idle:
            connection = idle.pop()  # the last used: the others may age and go
            if connection.is_open and connection.reusable and connection.idle_since > youngest:
                return connection
            connection.close()
        return None

    async def _connect(self, endpoint: Endpoint) -> Connection:
        loop = self._loop
        try:
            async with asyncio.timeout(CONNECT_S):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop), endpoint.host, endpoint.port, ssl=endpoint.tls
                )
        except (OSError, UnicodeError) as error:  # TimeoutError and SSLError are OSErrors
            raise HttpError(f"no connection: {error!r}") from error
        return connection

    def _look_after(self) -> None:
        now = self._loop.time()
        for connection in [one for one in self._busy if one.is_stalled(now)]:
            connection.fail(stalled(connection))
        for address, idle in list(self._idle.items()):
            kept = []
            for connection in idle:
                if connection.is_open and now - connection.idle_since < KEEPALIVE_S:
                    kept.append(connection)
                else:
                    connection.close()
            if kept:
                self._idle[address] = kept
            else:
                del self._idle[address]
        self._sweep = self._loop.call_later(_SWEEP_S, self._look_after)
