"""HTTP/1.1 to model servers: no more of it than a gateway needs.

The parser is llhttp (httptools), the rest an asyncio protocol. Against aiohttp a plain
request costs the inference process about a fifth less CPU (docs/performance.md).
`connection` is one connection, `client` the pool of them, `endpoint` what is fixed for a URL.
"""

from ias_inference.adapters.http1.client import Client
from ias_inference.adapters.http1.connection import Connection
from ias_inference.adapters.http1.endpoint import Endpoint
from ias_inference.adapters.http1.errors import Disconnected, HttpError, Stalled

__all__ = ["Client", "Connection", "Disconnected", "Endpoint", "HttpError", "Stalled"]
