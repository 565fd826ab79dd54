"""A URL that requests are posted to, with all that doesn't change from one to the next."""

import ssl
from collections.abc import Mapping
from functools import cache
from urllib.parse import quote, urlsplit

_PATH_SAFE = "/%:@!$&'()*+,;=~"


class Endpoint:
    """Where to connect, and the head of a POST there."""

    __slots__ = ("_head", "host", "port", "tls")

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """Raises ValueError for a URL or a header that can't be sent."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an http or https URL with a host")
        self.tls = tls_context() if parts.scheme == "https" else None
        self.host = parts.hostname
        self.port = parts.port or (443 if self.tls else 80)
        name = self.host if self.host.isascii() else self.host.encode("idna").decode()
        authority = f"[{name}]" if ":" in name else name
        if parts.port:
            authority += f":{parts.port}"
        lines = [
            f"POST {quote(parts.path or '/', safe=_PATH_SAFE)} HTTP/1.1",
            f"Host: {authority}",
            *(f"{header}: {value}" for header, value in headers.items()),
            "Content-Length: ",
        ]
        if any(not line.isascii() or not line.isprintable() for line in lines):
            raise ValueError("a header holds what can't be sent")
        self._head = "\r\n".join(lines).encode()

    @property
    def address(self) -> tuple[str, int, bool]:
        """What connections are kept by."""
        return self.host, self.port, self.tls is not None

    def post(self, body: bytes) -> bytes:
        """A request as it goes onto the wire."""
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)


@cache
def tls_context() -> ssl.SSLContext:
    """Trusts what the machine trusts; made once, since that reads every certificate."""
    return ssl.create_default_context()
