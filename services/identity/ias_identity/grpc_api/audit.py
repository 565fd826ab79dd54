"""AuditService."""

from ias.identity.v1 import audit_pb2

from ias_identity.domain.audit import Audit
from ias_identity.grpc_api import mapping
from ias_runtime import fields
from ias_runtime.rpc import Call


class AuditServicer:
    """Serves ias.identity.v1.AuditService."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def ListAuditEntries(
        self, request: audit_pb2.ListAuditEntriesRequest, call: Call
    ) -> audit_pb2.ListAuditEntriesResponse:
        """See the contract."""
        size = fields.page_size(request.page_size)
        found = await self._audit.list(
            call.caller,
            mapping.reference("organization_id", request.organization_id, required=False),
            action=fields.text("action", request.action, max_length=100, required=False),
            resource_id=mapping.reference("resource_id", request.resource_id, required=False),
            before=mapping.time_position(request.page_token),
            limit=size + 1,
        )
        last = found[size - 1] if len(found) > size else None
        return audit_pb2.ListAuditEntriesResponse(
            entries=[mapping.audit_entry(each) for each in found[:size]],
            next_page_token=mapping.to_time_token(last.occurred_at, last.id) if last else "",
        )
