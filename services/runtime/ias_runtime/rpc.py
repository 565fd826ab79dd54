"""Binds a servicer to its contract: what every call goes through, prepared once per method.

A servicer method is `async def Name(self, request, call)`. A stream is an async generator, or where
speed counts a coroutine that writes with `call.write` and returns the last message: that
one goes out in one batch with the status, and a generator's machinery is saved (a sixth of the
CPU of a trivial call).
Around it, in this order: the caller from the signed `x-ias-caller`, the RPC's access rule, the
handler, errors → status + ErrorInfo, metrics and a log line for what failed. All that does not
depend on the call (rule, labels, serialisers) is made when the server is built, not when a call
arrives.
"""

from __future__ import annotations

import inspect
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import structlog
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from ias_runtime import access, metrics, postgres
from ias_runtime.caller import Caller
from ias_runtime.caller_token import HEADER, CallerVerifier
from ias_runtime.errors import IasError, Unavailable

log = structlog.get_logger()

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]


class Call:
    """One call: who, which, and the means to answer beyond the response."""

    __slots__ = ("context", "metadata", "verified")

    def __init__(self, context: Context, metadata: dict[str, str], verified: Caller) -> None:
        self.context = context
        self.metadata = metadata
        self.verified = verified
        """The caller as in the token: shared between calls, without request id and address."""

    @property
    def request_id(self) -> str:
        """The id that the client sees in `x-request-id`; made up for a direct call."""
        found = self.metadata.get("x-request-id")
        if found is None:
            found = self.metadata["x-request-id"] = str(uuid.uuid4())
        return found

    async def write(self, message: Message) -> None:
        """Sends a message of a stream whose method is a coroutine; returns when it is on its way.

        Raises CancelledError when the client has left.
        """
        await self.context.write(message.SerializeToString())

    @property
    def caller(self) -> Caller:
        """The caller with this call's request id, for rules and the audit log."""
        return replace(self.verified, request_id=self.request_id)


@dataclass(frozen=True, slots=True)
class Binding:
    """A servicer and the service of the contract that it serves."""

    service: ServiceDescriptor
    servicer: object


def generic_handler(binding: Binding, verifier: CallerVerifier) -> grpc.GenericRpcHandler:
    """What a grpc server takes. Raises AttributeError when the servicer lacks a method."""
    handlers = {
        method.name: _handler(method, getattr(binding.servicer, method.name), verifier)
        for method in binding.service.methods
    }
    return grpc.method_handlers_generic_handler(binding.service.full_name, handlers)


def _handler(
    method: MethodDescriptor, handle: Any, verifier: CallerVerifier
) -> grpc.RpcMethodHandler[Any, Any]:
    call = _Wrapper(method, verifier)
    request_class = GetMessageClass(method.input_type)
    make: Any
    if method.server_streaming and inspect.isasyncgenfunction(handle):
        make, behaviour = grpc.unary_stream_rpc_method_handler, call.streaming(handle)
    else:
        make, behaviour = grpc.unary_unary_rpc_method_handler, call.unary(handle)
    made: grpc.RpcMethodHandler[Any, Any] = make(
        behaviour,
        request_deserializer=request_class.FromString,
        response_serializer=_serialize,
    )
    return made


def _serialize(message: Message) -> bytes:
    """Serialises a response message."""
    return message.SerializeToString()


class _Wrapper:
    def __init__(self, method: MethodDescriptor, verifier: CallerVerifier) -> None:
        name = f"{method.containing_service.full_name}/{method.name}"
        self._name = name
        self._check = access.check_of(access.rule_of(method))
        self._verify = verifier.verify
        self._latency = metrics.LATENCY.labels(name)
        self._ok = metrics.CALLS.labels(name, "OK")

    def unary(self, handle: Callable[[Any, Call], Awaitable[Message]]) -> Any:
        async def behaviour(request: Message, context: Context) -> Message:
            started = time.perf_counter()
            call: Call | None = None
            try:
                call = self._admit(context)
                response = await handle(request, call)
            except Exception as error:
                await self._fail(context, call, error)
            finally:
                self._latency.observe(time.perf_counter() - started)
            self._ok.inc()
            return response

        return behaviour

    def streaming(self, handle: Callable[[Any, Call], AsyncIterator[Message]]) -> Any:
        async def behaviour(request: Message, context: Context) -> AsyncIterator[Message]:
            started = time.perf_counter()
            call: Call | None = None
            try:
                call = self._admit(context)
                async for response in handle(request, call):
                    yield response
            except Exception as error:
                await self._fail(context, call, error)
            finally:
                self._latency.observe(time.perf_counter() - started)
            self._ok.inc()

        return behaviour

    def _admit(self, context: Context) -> Call:
        metadata: dict[str, str] = dict(context.invocation_metadata() or ())  # type: ignore[arg-type]
        token = metadata.get(HEADER)
        caller = self._verify(token) if token is not None else None
        self._check(caller)
        assert caller is not None
        return Call(context, metadata, caller)

    async def _fail(self, context: Context, call: Call | None, error: Exception) -> NoReturn:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        known = as_ias_error(error)
        metrics.CALLS.labels(self._name, known.code).inc()
        request_id = call.request_id if call else ""
        if known.reason == "INTERNAL":
            log.error("call failed", method=self._name, request_id=request_id, exc_info=error)
        else:
            log.info(
                "call refused",
                method=self._name,
                request_id=request_id,
                code=known.code,
                reason=known.reason,
                cause=repr(error) if known is not error else None,
            )
        await context.abort(grpc.StatusCode[known.code], known.message, trailing_metadata(known))
        raise AssertionError("abort returned")


def as_ias_error(error: Exception) -> IasError:
    """The failure as the caller may see it; anything unforeseen becomes a bare INTERNAL."""
    if isinstance(error, IasError):
        return error
    if isinstance(error, (*postgres.UNAVAILABLE, *postgres.RETRYABLE)):
        return Unavailable("database")
    return IasError("Internal error; the log has it under the request id.", reason="INTERNAL")


def trailing_metadata(error: IasError) -> tuple[tuple[str, str | bytes], ...]:
    """google.rpc.Status with ErrorInfo and what else applies, readable from any language."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain="ias", metadata=error.metadata)
    ]
    if error.retry_after_s is not None:
        wait = duration_pb2.Duration()
        wait.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=wait))
    if error.code == "RESOURCE_EXHAUSTED":
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=error.metadata.get("scope", ""), description=error.message
        )
        details.append(error_details_pb2.QuotaFailure(violations=[violation]))
    if field := error.metadata.get("field"):
        broken = error_details_pb2.BadRequest.FieldViolation(
            field=field, description=error.metadata.get("rule", error.message)
        )
        details.append(error_details_pb2.BadRequest(field_violations=[broken]))
    status = status_pb2.Status(
        code=grpc.StatusCode[error.code].value[0],
        message=error.message,
        details=[_pack(detail) for detail in details],
    )
    return (("grpc-status-details-bin", status.SerializeToString()),)


def _pack(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def service_names(bindings: Iterable[Binding]) -> list[str]:
    """Full names, as for reflection."""
    return [binding.service.full_name for binding in bindings]
