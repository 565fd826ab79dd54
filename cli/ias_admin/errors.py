"""What goes wrong, told in two lines: what, and what to do next.

Exit codes: 0 done · 1 failed · 2 wrong usage · 3 not allowed · 4 not found.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

FAILED = 1
WRONG_USAGE = 2
NOT_ALLOWED = 3
NOT_FOUND = 4

_DETAILS = "grpc-status-details-bin"


class CliError(Exception):
    """A failure to tell the user, who sees `what` and `hint` on stderr, one line each."""

    def __init__(self, what: str, hint: str = "", *, exit_code: int = FAILED) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.exit_code = exit_code


def wrong_usage(what: str, hint: str = "") -> CliError:
    """The command line can't be meant as it stands."""
    return CliError(what, hint, exit_code=WRONG_USAGE)


def not_signed_in(what: str = "You are not signed in.") -> CliError:
    """There is no session, or one that has ended."""
    return CliError(what, "Sign in with: ias-admin login", exit_code=NOT_ALLOWED)


@dataclass(frozen=True)
class Refusal:
    """A call that the server refused, with the details it sent."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    """A value of ias.errors.v1.ErrorReason without its prefix; empty when none was sent."""
    metadata: dict[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None


def refusal(error: grpc.RpcError) -> Refusal:
    """Reads google.rpc.Status out of a failed call."""
    code: grpc.StatusCode = error.code()
    message, reason = _unwrapped(error.details() or "")
    metadata: dict[str, str] = {}
    retry_after_s: float | None = None
    for packed in _status(error).details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if packed.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif packed.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    return Refusal(code, message, reason, metadata, retry_after_s)


def from_rpc(error: grpc.RpcError, address: str) -> CliError:
    """The failed call as the user is told it. `address` is where IAS was looked for."""
    told = refusal(error)
    hint = _hint(told, address)
    if told.code is grpc.StatusCode.UNAVAILABLE and not told.reason:
        # Envoy says briefly what is wrong behind it; a failed connection says it at length.
        why = f" ({told.message})" if 0 < len(told.message) <= 80 else ""
        return CliError(f"IAS can't be reached at {address}{why}.", hint)
    what = told.message or f"The call ended with {told.code.name}."
    return CliError(" ".join(what.split()), hint, exit_code=_exit_code(told))


def _status(error: grpc.RpcError) -> status_pb2.Status:
    """Empty when the server sent none, or what it sent is no google.rpc.Status."""
    status = status_pb2.Status()
    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == _DETAILS:
            try:
                status.ParseFromString(value)
            except ValueError:
                return status_pb2.Status()
    return status


def _unwrapped(details: str) -> tuple[str, str]:
    """Message and reason. Envoy's own refusals put a JSON body where gRPC has its message."""
    try:
        body = json.loads(details)
    except ValueError:
        return details, ""
    if not isinstance(body, dict):
        return details, ""
    inner = body.get("error", body)
    if not isinstance(inner, dict) or not isinstance(inner.get("message"), str):
        return details, ""
    code = inner.get("code")
    return inner["message"], code.upper() if isinstance(code, str) else ""


def _exit_code(told: Refusal) -> int:
    match told.code:
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return NOT_ALLOWED
        case grpc.StatusCode.NOT_FOUND:
            return NOT_FOUND
        case grpc.StatusCode.INVALID_ARGUMENT if told.reason in ("INVALID_FIELD", "WEAK_PASSWORD"):
            return WRONG_USAGE
    return FAILED


_REASONS: dict[str, Callable[[Refusal], str]] = {
    "INVALID_CREDENTIAL": lambda _: "Sign in again with: ias-admin login",
    "INVALID_API_KEY": lambda _: "Check the key; `ias-admin key list` shows which are in force.",
    "BAD_LOGIN": lambda _: "Check the address and the password.",
    "INVALID_INVITATION": lambda _: "Ask for a new invitation; one is valid for 7 days, once.",
    "PERMISSION_DENIED": lambda _: "`ias-admin whoami` shows your role; ask an administrator.",
    "WRONG_CREDENTIAL_KIND": lambda told: (
        "Chat with an API key: --key or IAS_API_KEY."
        if told.metadata.get("expected") == "api_key"
        else "Use a person's session: ias-admin login"
    ),
    "ADDRESS_NOT_ALLOWED": lambda _: "`ias-admin key get` shows from where the key may be used.",
    "MODEL_NOT_FOUND": lambda _: "Check the model's name, and that it is enabled.",
    "NOT_FOUND": lambda told: _see_the_list(told.metadata.get("resource", "")),
    "ALREADY_EXISTS": lambda _: "Choose another name.",
    "WEAK_PASSWORD": lambda _: "Choose a longer, less obvious password.",
    "INSUFFICIENT_QUOTA": lambda _: "`ias-admin budget get` shows what is left, and until when.",
    "CONTEXT_LENGTH_EXCEEDED": lambda _: "Shorten the conversation, or start a new one.",
    "INTERNAL": lambda _: "Tell the operator, with the time of the call; the log has the cause.",
}

_CODES: dict[grpc.StatusCode, str] = {
    grpc.StatusCode.UNAUTHENTICATED: "Sign in with: ias-admin login",
    grpc.StatusCode.PERMISSION_DENIED: "`ias-admin whoami` shows your role.",
    grpc.StatusCode.INVALID_ARGUMENT: "See --help for what the command takes.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "Try again; the change may have been made, so look first.",
}


def _hint(told: Refusal, address: str) -> str:
    if told.retry_after_s:
        return f"Try again in {told.retry_after_s:.3g} s."
    if told.reason in _REASONS:
        return _REASONS[told.reason](told)
    if told.code is grpc.StatusCode.UNAVAILABLE:
        return "Is it running there? Choose another address with --grpc or IAS_GRPC."
    if told.code is grpc.StatusCode.UNIMPLEMENTED:
        return f"Is {address} the gRPC address of IAS, and of this version?"
    return _CODES.get(told.code, "")


_LISTS = {
    "organization": "ias-admin org list",
    "user": "ias-admin user list",
    "api_key": "ias-admin key list",
    "model": "ias-admin model list",
}


def _see_the_list(resource: str) -> str:
    command = _LISTS.get(resource)
    return f"`{command}` shows those that there are." if command else ""
