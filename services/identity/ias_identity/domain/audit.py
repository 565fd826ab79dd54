"""The audit log, as it is read. Nothing here writes it: each change does, in its transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ias_identity.domain.organizations import Organizations
from ias_identity.domain.ports import AuditLog
from ias_runtime.caller import Caller


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change. `organization_id` is empty for the log of the system itself."""

    id: str
    organization_id: str
    sequence: int
    occurred_at: datetime
    action: str
    resource_type: str
    resource_id: str
    actor_user_id: str
    actor_api_key_id: str
    actor_address: str
    request_id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    hash: bytes


class Audit:
    """Who may read which log."""

    def __init__(self, log: AuditLog, organizations: Organizations) -> None:
        self._log = log
        self._organizations = organizations

    async def list(
        self,
        caller: Caller,
        organization: str,
        *,
        action: str,
        resource_id: str,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> list[AuditEntry]:
        """Entries of an organisation's log (every log, for a System Admin who names none).

        Newest first, beginning after `before`. Raises NotFound for another's organisation.
        """
        only = await self._organizations.scope(caller, organization)
        return await self._log.list(
            organization_id=only,
            action=action or None,
            resource_id=resource_id or None,
            before=before,
            limit=limit,
        )
