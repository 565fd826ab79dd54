"""metering's QuotaService as seen by a holder: grants, refusals, and what else may happen."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
import structlog
from ias.metering.v1 import leases_pb2 as pb
from ias.metering.v1 import leases_pb2_grpc

from ias_inference.adapters.leases import metrics
from ias_inference.adapters.leases.timing import Timing
from ias_inference.domain.ports import BudgetState
from ias_runtime.caller_token import MeshSigner

log = structlog.get_logger()

_SHORTEST_S = 0.5
"""A lease with less life than this was not meant so: the clocks differ."""
_DOWN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,  # what a server that stops says to calls under way
)


class LeaseEnded(Exception):
    """Metering no longer knows the lease."""


class Unreachable(Exception):
    """Metering did not answer, or not as it should."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease as metering last described it."""

    lease_id: str
    granted_tokens: int
    life_s: float
    """Seconds from the sending of the request in which the lease may be drawn on."""
    period_s: float
    """Seconds from the answer to the end of the budget period; may be negative."""
    budget: BudgetState | None
    """The tightest budget, the lease's own tokens not included; None when none has a limit."""
    scarce: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a need had no room."""

    scope: str
    reset_time: datetime
    limit_tokens: int
    spent_tokens: int
    may_free_up: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call brought: a lease, a refusal, or, when renewing, both."""

    grant: Grant | None
    refusal: Refusal | None


class QuotaClient:
    """Calls metering. All methods raise Unreachable; `renew` also LeaseEnded."""

    def __init__(
        self, channel: grpc.aio.Channel, mesh: MeshSigner, holder: str, timing: Timing
    ) -> None:
        stub: Any = leases_pb2_grpc.QuotaServiceStub(channel)
        self._acquire = stub.AcquireLease
        self._renew = stub.RenewLease
        self._release = stub.ReleaseLease
        self._mesh = mesh
        self._holder = holder
        self._timing = timing

    async def acquire(self, subject: pb.LeaseSubject, need: int, want: int) -> Outcome:
        """Asks for a lease of between `need` and `want` tokens."""
        request = pb.AcquireLeaseRequest(
            subject=subject, holder=self._holder, need_tokens=need, want_tokens=want
        )
        response = await self._call("acquire", self._acquire, request)
        if response.HasField("lease"):
            return Outcome(self._grant(response.lease), None)
        return Outcome(None, _refusal(response.refusal))

    async def renew(self, lease_id: str, need: int, want: int) -> Outcome:
        """Prolongs a lease and asks for between `need` and `want` tokens on top."""
        request = pb.RenewLeaseRequest(lease_id=lease_id, need_tokens=need, want_tokens=want)
        response = await self._call("renew", self._renew, request)
        refusal = _refusal(response.refusal) if response.HasField("refusal") else None
        return Outcome(self._grant(response.lease), refusal)

    async def release(self, lease_id: str, used: int) -> None:
        """Ends a lease of which `used` tokens are or will be in usage events."""
        request = pb.ReleaseLeaseRequest(lease_id=lease_id, used_tokens=used)
        await self._call("release", self._release, request)

    async def _call(self, name: str, method: Any, request: Any) -> Any:
        try:
            response = await method(
                request, timeout=self._timing.call, metadata=self._mesh.metadata()
            )
        except grpc.aio.AioRpcError as error:
            code = error.code()
            metrics.CALLS.labels(name, code.name).inc()
            if code is grpc.StatusCode.NOT_FOUND:
                raise LeaseEnded from error
            if code not in _DOWN:
                log.error("metering failed", rpc=name, code=code.name, details=error.details())
            raise Unreachable(code.name) from error
        except grpc.aio.UsageError as error:  # the channel was closed
            raise Unreachable(str(error)) from error
        metrics.CALLS.labels(name, "OK").inc()
        return response

    def _grant(self, lease: pb.Lease) -> Grant:
        now = time.time()
        life = _seconds(lease.expire_time) - now
        # A clock that differs from metering's must neither kill leases nor keep dead ones alive.
        ttl = self._timing.ttl
        if not _SHORTEST_S <= life <= ttl:
            life = ttl
        period = _seconds(lease.period_end_time) - now
        budget = None
        if lease.HasField("budget"):
            budget = BudgetState(
                lease.budget.scope,
                lease.budget.limit_tokens,
                lease.budget.remaining_tokens,
                lease.budget.reset_time.ToDatetime(tzinfo=UTC),
            )
        return Grant(
            lease_id=lease.lease_id,
            granted_tokens=lease.granted_tokens,
            life_s=life - min(self._timing.margin, life / 4),
            period_s=period if lease.HasField("period_end_time") else life,
            budget=budget,
            scarce=lease.scarce,
        )


def _seconds(stamp: Any) -> float:
    return float(stamp.seconds + stamp.nanos / 1e9)


def _refusal(refusal: pb.LeaseRefusal) -> Refusal:
    return Refusal(
        refusal.scope,
        refusal.reset_time.ToDatetime(tzinfo=UTC),
        refusal.limit_tokens,
        refusal.spent_tokens,
        refusal.may_free_up,
    )
