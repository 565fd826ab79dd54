"""A metering service with one exact budget, served over a real gRPC channel."""

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from ias.metering.v1 import leases_pb2 as pb
from ias.metering.v1 import leases_pb2_grpc

RESET_S = 1_796_083_200  # 2026-12-01T00:00:00Z


@dataclass
class FakeMetering(leases_pb2_grpc.QuotaServiceServicer):
    """Grants what fits into `limit`; None is no limit. Asserts that nothing is ever overspent."""

    limit: int | None = None
    ttl_s: float = 30.0
    period_end_s: float | None = None
    spent: int = 0
    leases: dict[str, int] = field(default_factory=dict)
    released: dict[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    holders: set[str] = field(default_factory=set)

    @property
    def leased(self) -> int:
        return sum(self.leases.values())

    def _room(self) -> int:
        return 1 << 60 if self.limit is None else self.limit - self.spent - self.leased

    def _give(self, lease_id: str, need: int, want: int) -> int:
        room = self._room()
        given = 0 if room < need else max(0, min(want, room))
        self.leases[lease_id] = self.leases.get(lease_id, 0) + given
        assert self.limit is None or self.spent + self.leased <= self.limit, "overspent"
        return given

    def _lease(self, lease_id: str, scarce: bool) -> pb.Lease:
        now = time.time()
        lease = pb.Lease(lease_id=lease_id, granted_tokens=self.leases[lease_id], scarce=scarce)
        lease.expire_time.FromNanoseconds(int((now + self.ttl_s) * 1e9))
        lease.period_end_time.FromNanoseconds(int((self.period_end_s or now + 86400) * 1e9))
        if self.limit is not None:
            lease.budget.scope = "organization"
            lease.budget.limit_tokens = self.limit
            lease.budget.remaining_tokens = max(0, self._room())
            lease.budget.reset_time.seconds = RESET_S
        return lease

    def _refusal(self, need: int, own: int = 0) -> pb.LeaseRefusal:
        assert self.limit is not None
        refusal = pb.LeaseRefusal(
            scope="organization",
            limit_tokens=self.limit,
            spent_tokens=self.spent,
            may_free_up=self.limit - self.spent >= need,
        )
        refusal.reset_time.seconds = RESET_S
        return refusal

    async def AcquireLease(self, request, context):
        self.calls.append("acquire")
        self.holders.add(request.holder)
        assert 1 <= request.need_tokens <= request.want_tokens
        assert dict(context.invocation_metadata())["x-ias-caller"]
        lease_id = str(uuid.uuid4())
        given = self._give(lease_id, request.need_tokens, request.want_tokens)
        if given < request.need_tokens:
            del self.leases[lease_id]
            return pb.AcquireLeaseResponse(refusal=self._refusal(request.need_tokens))
        scarce = given < request.want_tokens
        return pb.AcquireLeaseResponse(lease=self._lease(lease_id, scarce))

    async def RenewLease(self, request, context):
        self.calls.append("renew")
        assert 0 <= request.need_tokens <= request.want_tokens
        if request.lease_id not in self.leases:
            await context.abort(grpc.StatusCode.NOT_FOUND, "No lease.")
        given = self._give(request.lease_id, request.need_tokens, request.want_tokens)
        lease = self._lease(request.lease_id, given < request.want_tokens)
        refusal = self._refusal(request.need_tokens) if given < request.need_tokens else None
        return pb.RenewLeaseResponse(lease=lease, refusal=refusal)

    async def ReleaseLease(self, request, context):
        self.calls.append("release")
        granted = self.leases.pop(request.lease_id, None)
        if granted is None:
            return pb.ReleaseLeaseResponse()
        self.spent += request.used_tokens
        self.released[request.lease_id] = request.used_tokens
        return pb.ReleaseLeaseResponse(returned_tokens=max(0, granted - request.used_tokens))

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[int]:
        """Serves until the end of the block; gives the port."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        leases_pb2_grpc.add_QuotaServiceServicer_to_server(self, server)
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        try:
            yield bound
        finally:
            await server.stop(0)
