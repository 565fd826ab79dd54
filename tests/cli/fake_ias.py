"""What an IAS in memory holds, for ias-admin to be run against; see servicers.py."""

import itertools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf import any_pb2, struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from ias.access.v1 import access_pb2
from ias.identity.v1 import api_keys_pb2, audit_pb2, organizations_pb2, sessions_pb2, users_pb2

PAGE = 2
"""The most that a page of this IAS holds, so that every list has several."""

ADMIN_EMAIL, PASSWORD = "ops@example.com", "correct horse battery"
SECRET_KEY = "ias_AbCd" + "x" * 44 + "wxyz"


def stamp(when: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(when)
    return made


def refuse(
    context: Any, code: str, reason: str, message: str, retry_s: int = 0, **metadata: str
) -> Any:
    """Aborts as the chassis of IAS does."""
    details: list[Any] = [
        error_details_pb2.ErrorInfo(reason=reason, domain="ias", metadata=metadata)
    ]
    if retry_s:
        details.append(error_details_pb2.RetryInfo())
        details[-1].retry_delay.FromSeconds(retry_s)
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    status = status_pb2.Status(code=grpc.StatusCode[code].value[0], message=message, details=packed)
    context.abort_with_status(rpc_status.to_status(status))


def page(request: Any, everything: list[Any]) -> tuple[list[Any], str]:
    begin = int(request.page_token or 0)
    size = min(request.page_size or PAGE, PAGE)
    more = str(begin + size) if begin + size < len(everything) else ""
    return everything[begin : begin + size], more


@dataclass
class FakeIas:
    """What the IAS in memory holds, and what it was asked."""

    address: str = ""
    organizations: dict[str, Any] = field(default_factory=dict)
    users: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)
    models: dict[str, Any] = field(default_factory=dict)
    budgets: dict[tuple[str, str, str], Any] = field(default_factory=dict)
    usage: list[Any] = field(default_factory=list)
    audit: list[Any] = field(default_factory=list)
    access_tokens: dict[str, str] = field(default_factory=dict)
    """User ids by the access tokens in force."""
    refresh_tokens: dict[str, str] = field(default_factory=dict)
    token_lifetime: timedelta = timedelta(hours=1)
    requests: list[Any] = field(default_factory=list)
    stream_fails: bool = False
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def organization(self, name: str, display_name: str = "") -> Any:
        made = organizations_pb2.Organization(
            id=str(uuid.uuid4()),
            name=name,
            display_name=display_name or name,
            status=organizations_pb2.ORGANIZATION_STATUS_ACTIVE,
            create_time=stamp(datetime(2026, 11, 1, 12, tzinfo=UTC)),
        )
        self.organizations[made.id] = made
        return made

    def user(self, email: str, role: Any, organization_id: str = "") -> Any:
        made = users_pb2.User(
            id=str(uuid.uuid4()),
            organization_id=organization_id,
            email=email,
            role=role,
            status=users_pb2.USER_STATUS_ACTIVE,
            create_time=stamp(datetime(2026, 11, 2, tzinfo=UTC)),
        )
        self.users[made.id] = made
        return made

    def key(self, name: str, owner: Any, *, revoked: bool = False, identifier: str = "") -> Any:
        made = api_keys_pb2.ApiKey(
            id=identifier or str(uuid.uuid4()),
            organization_id=owner.organization_id,
            user_id=owner.id,
            name=name,
            display=f"ias_K{next(self._numbers):03d}…wxyz",
            create_time=stamp(datetime(2026, 11, 3, tzinfo=UTC)),
        )
        if revoked:
            made.revoke_time.CopyFrom(stamp(datetime(2026, 11, 4, tzinfo=UTC)))
        self.keys[made.id] = made
        return made

    def tokens(self, user_id: str) -> Any:
        number = next(self._numbers)
        now = datetime.now(UTC)
        made = sessions_pb2.SessionTokens(
            access_token=f"access-secret-{number}",
            refresh_token=f"refresh-secret-{number}",
            access_expire_time=stamp(now + self.token_lifetime),
            refresh_expire_time=stamp(now + timedelta(days=7)),
        )
        self.access_tokens[made.access_token] = user_id
        self.refresh_tokens[made.refresh_token] = user_id
        return made

    def caller(self, context: Any) -> Any:
        """Who calls. Ends the call when nobody that is known does."""
        bearer = dict(context.invocation_metadata()).get("authorization", "")
        user_id = self.access_tokens.get(bearer.removeprefix("Bearer "))
        if user_id is None:
            refuse(context, "UNAUTHENTICATED", "INVALID_CREDENTIAL", "No valid credential.")
        return self.users[user_id]

    def admin(self, context: Any) -> Any:
        caller = self.caller(context)
        if caller.role == access_pb2.ROLE_ORG_USER:
            refuse(context, "PERMISSION_DENIED", "PERMISSION_DENIED", "You may not do this.")
        return caller


def not_found(context: Any, resource: str, identifier: str) -> Any:
    return refuse(
        context, "NOT_FOUND", "NOT_FOUND", f"No {resource} {identifier!r}.", resource=resource
    )


def audit_entry(number: int, actor: str, action: str) -> Any:
    after = struct_pb2.Struct()
    after.update({"name": "acme", "tokens": 5, "tags": ["a", None], "inner": {"on": True}})
    return audit_pb2.AuditEntry(
        id=str(uuid.uuid4()),
        sequence=number,
        occur_time=stamp(datetime(2026, 11, 5, 10, number, tzinfo=UTC)),
        action=action,
        resource_type="organization",
        resource_id="acme",
        actor_user_id=actor,
        actor_address="203.0.113.7",
        after=after,
    )
