"""QuotaService: called by inference, and by nobody else."""

from collections.abc import Callable
from datetime import datetime

from ias.metering.v1 import leases_pb2 as pb2

from ias_metering.domain.leases import MAX_TOKENS, BudgetState, Grant, Refusal, Subject
from ias_metering.domain.ports import Leases
from ias_runtime.fields import integer, text, to_timestamp, uuid_text
from ias_runtime.rpc import Call


class QuotaServicer:
    """Grants leases."""

    def __init__(self, leases: Leases, clock: Callable[[], datetime]) -> None:
        self._leases = leases
        self._clock = clock

    async def AcquireLease(
        self, request: pb2.AcquireLeaseRequest, _: Call
    ) -> pb2.AcquireLeaseResponse:
        """A lease, or why not."""
        subject = to_subject(request.subject)
        holder = text("holder", request.holder, max_length=200)
        need = integer("need_tokens", request.need_tokens, minimum=1, maximum=MAX_TOKENS)
        want = integer("want_tokens", request.want_tokens, minimum=need, maximum=MAX_TOKENS)
        outcome = await self._leases.acquire(subject, holder, need, want, self._clock())
        if isinstance(outcome, Refusal):
            return pb2.AcquireLeaseResponse(refusal=from_refusal(outcome))
        return pb2.AcquireLeaseResponse(lease=from_grant(outcome))

    async def RenewLease(self, request: pb2.RenewLeaseRequest, _: Call) -> pb2.RenewLeaseResponse:
        """The lease, prolonged, with more tokens if there are any."""
        lease_id = uuid_text("lease_id", request.lease_id)
        need = integer("need_tokens", request.need_tokens, minimum=0, maximum=MAX_TOKENS)
        want = integer("want_tokens", request.want_tokens, minimum=need, maximum=MAX_TOKENS)
        renewal = await self._leases.renew(lease_id, need, want, self._clock())
        return pb2.RenewLeaseResponse(
            lease=from_grant(renewal.grant),
            refusal=from_refusal(renewal.refusal) if renewal.refusal else None,
        )

    async def ReleaseLease(
        self, request: pb2.ReleaseLeaseRequest, _: Call
    ) -> pb2.ReleaseLeaseResponse:
        """Ends it."""
        lease_id = uuid_text("lease_id", request.lease_id)
        # A request may use more than was drawn for it, when the prompt is counted only afterwards.
        used = integer("used_tokens", request.used_tokens, minimum=0, maximum=2**62)
        returned = await self._leases.release(lease_id, used, self._clock())
        return pb2.ReleaseLeaseResponse(returned_tokens=returned)


def to_subject(subject: pb2.LeaseSubject) -> Subject:
    """On whose behalf."""
    return Subject(
        uuid_text("subject.organization_id", subject.organization_id),
        uuid_text("subject.user_id", subject.user_id),
        uuid_text("subject.api_key_id", subject.api_key_id),
    )


def from_grant(grant: Grant) -> pb2.Lease:
    """As the holder sees it."""
    return pb2.Lease(
        lease_id=grant.lease_id,
        granted_tokens=grant.granted_tokens,
        expire_time=to_timestamp(grant.expire_at),
        period_end_time=to_timestamp(grant.period_end),
        budget=from_state(grant.budget) if grant.budget else None,
        scarce=grant.scarce,
    )


def from_state(state: BudgetState) -> pb2.BudgetState:
    """The tightest budget."""
    return pb2.BudgetState(
        scope=state.scope.value,
        limit_tokens=state.limit_tokens,
        remaining_tokens=state.remaining_tokens,
        reset_time=to_timestamp(state.reset_time),
    )


def from_refusal(refusal: Refusal) -> pb2.LeaseRefusal:
    """Why not."""
    return pb2.LeaseRefusal(
        scope=refusal.scope.value,
        reset_time=to_timestamp(refusal.reset_time),
        limit_tokens=refusal.limit_tokens,
        spent_tokens=refusal.spent_tokens,
        may_free_up=refusal.may_free_up,
    )
