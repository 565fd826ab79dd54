"""The connection to IAS: one channel to Envoy's gRPC listener, and the SDK's stubs over it."""

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

import grpc
from ias_sdk.ias.identity import v1 as identity
from ias_sdk.ias.inference import v1 as inference
from ias_sdk.ias.metering import v1 as metering

from ias_admin.errors import wrong_usage
from ias_admin.progress import waiting

DEFAULT_ADDRESS = "127.0.0.1:8080"
DEADLINE_S = 30.0
"""How long a unary call may take."""


@dataclass(frozen=True)
class Address:
    """Where IAS listens. TLS when it was written with https://."""

    target: str
    """host:port"""
    secure: bool

    @classmethod
    def parse(cls, text: str) -> "Address":
        """`host:port`, `http://host:port` or `https://host[:port]`."""
        plain = "//" not in text
        try:
            parts = urlsplit(f"http://{text}" if plain else text)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        secure = parts.scheme == "https"
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise wrong_usage(
                f"{text!r} is no address.", "Write one as host:8080 or https://host:443."
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(f"{host}:{port or (443 if secure else 8080)}", secure)

    def __str__(self) -> str:
        return f"https://{self.target}" if self.secure else self.target

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine, where no proxy may stand between."""
        host = self.target.rpartition(":")[0].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


class Credential(Protocol):
    """What is shown to IAS with each call."""

    def current(self) -> str:
        """The token to send. Raises CliError when there is none."""
        ...

    def renewed(self, refused: str) -> str | None:
        """Another token after this one was refused; None when there is no other."""
        ...


@dataclass(frozen=True)
class Fixed:
    """A token that was given from outside, or an API key."""

    token: str

    def current(self) -> str:
        return self.token

    def renewed(self, refused: str) -> str | None:
        return None


class Stubs:
    """The services of IAS that ias-admin uses."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.organizations = identity.OrganizationServiceSyncStub(channel)
        self.users = identity.UserServiceSyncStub(channel)
        self.api_keys = identity.ApiKeyServiceSyncStub(channel)
        self.sessions = identity.SessionServiceSyncStub(channel)
        self.audit = identity.AuditServiceSyncStub(channel)
        self.models = inference.ModelServiceSyncStub(channel)
        self.chat = inference.ChatServiceSyncStub(channel)
        self.openai = inference.OpenAiServiceSyncStub(channel)
        self.budgets = metering.BudgetServiceSyncStub(channel)
        self.usage = metering.UsageServiceSyncStub(channel)


class Connection:
    """One channel, opened at the first call."""

    def __init__(self, address: Address) -> None:
        options: list[tuple[str, Any]] = [("grpc.primary_user_agent", "ias-admin")]
        if address.loopback:
            options.append(("grpc.enable_http_proxy", 0))
        self.address = address
        self._channel = grpc.intercept_channel(
            grpc.secure_channel(address.target, grpc.ssl_channel_credentials(), options)
            if address.secure
            else grpc.insecure_channel(address.target, options),
            _Patience(),
        )

    def anonymous(self) -> Stubs:
        """For what anyone may call."""
        return Stubs(self._channel)

    def acting_with(self, credential: Credential) -> Stubs:
        """For what a session or an API key may call."""
        return Stubs(grpc.intercept_channel(self._channel, _Bearer(credential)))

    def close(self) -> None:
        self._channel.close()


class _Details(NamedTuple):
    """grpc has the interface of this, but no class for it."""

    method: str
    timeout: float | None
    metadata: Sequence[tuple[str, str | bytes]] | None
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


def _details(given: Any, **changed: Any) -> Any:
    # Envoy and the tests' server get what the caller set; only what `changed` names differs.
    fields: dict[str, Any] = {name: getattr(given, name, None) for name in _Details._fields}
    return _Details(**(fields | changed))


class _Patience(grpc.UnaryUnaryClientInterceptor):
    """Bounds every unary call in time, and shows that it goes on."""

    def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        with waiting():
            call = continuation(_details(client_call_details, timeout=DEADLINE_S), request)
            call.code()  # returns when the call has ended
            return call


class _Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adds `authorization: Bearer …`; once more with a renewed token when the first is refused."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        token = self._credential.current()
        call = continuation(_authorized(client_call_details, token), request)
        if call.code() is grpc.StatusCode.UNAUTHENTICATED:
            other = self._credential.renewed(token)
            if other is not None:
                return continuation(_authorized(client_call_details, other), request)
        return call

    def intercept_unary_stream(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        token = self._credential.current()
        return continuation(_authorized(client_call_details, token), request)


def _authorized(given: Any, token: str) -> Any:
    metadata = [*(given.metadata or ()), ("authorization", f"Bearer {token}")]
    return _details(given, metadata=metadata)


Request = TypeVar("Request", bound=Any)


def pages(call: Callable[[Request], Any], request: Request, items: str) -> Iterator[Any]:
    """Every item of a list, page after page; `items` is the response's field that holds them."""
    while True:
        answer = call(request)
        yield from getattr(answer, items)
        if not answer.next_page_token:
            return
        request = replace(request, page_token=answer.next_page_token)
