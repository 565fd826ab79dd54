"""Between the contract's messages and the domain's facts; nothing else."""

import json
from datetime import UTC, datetime

from ias.access.v1 import access_pb2
from ias.identity.v1 import (
    api_keys_pb2,
    audit_pb2,
    organizations_pb2,
    sessions_pb2,
    users_pb2,
)

from ias_identity.domain.api_keys import ApiKey
from ias_identity.domain.audit import AuditEntry
from ias_identity.domain.organizations import Organization, as_uuid
from ias_identity.domain.sessions import SessionTokens
from ias_identity.domain.users import User
from ias_runtime import fields
from ias_runtime.caller import Role
from ias_runtime.errors import InvalidField

_REF_MAX = 254


def organization(found: Organization) -> organizations_pb2.Organization:
    """An organisation."""
    return organizations_pb2.Organization(
        id=found.id,
        name=found.name,
        display_name=found.display_name,
        status=organizations_pb2.OrganizationStatus.Value(
            f"ORGANIZATION_STATUS_{found.status.value.upper()}"
        ),
        create_time=fields.to_timestamp(found.created_at),
    )


def user(found: User) -> users_pb2.User:
    """A user."""
    return users_pb2.User(
        id=found.id,
        organization_id=found.organization_id,
        email=found.email,
        role=access_pb2.Role.Value(f"ROLE_{found.role.value.upper()}"),
        status=users_pb2.UserStatus.Value(f"USER_STATUS_{found.status.value.upper()}"),
        create_time=fields.to_timestamp(found.created_at),
    )


def role(asked_for: int) -> Role:
    """The role asked for in an invitation; Org User when unspecified. Raises InvalidField."""
    if asked_for == access_pb2.ROLE_UNSPECIFIED:
        return Role.ORG_USER
    try:
        return Role(access_pb2.Role.Name(asked_for).removeprefix("ROLE_").lower())  # type: ignore[arg-type]
    except ValueError:
        raise InvalidField("role", "must be ROLE_ORG_ADMIN or ROLE_ORG_USER") from None


def api_key(found: ApiKey) -> api_keys_pb2.ApiKey:
    """An API key, without its secret."""
    return api_keys_pb2.ApiKey(
        id=found.id,
        organization_id=found.organization_id,
        user_id=found.user_id,
        name=found.name,
        display=found.display,
        allowed_models=found.allowed_models,
        allowed_cidrs=found.allowed_cidrs,
        create_time=fields.to_timestamp(found.created_at),
        expire_time=fields.to_timestamp(found.expires_at),
        revoke_time=fields.to_timestamp(found.revoked_at),
        last_use_time=fields.to_timestamp(found.last_used_at),
        last_use_address=found.last_used_address,
    )


def tokens(issued: SessionTokens) -> sessions_pb2.SessionTokens:
    """The tokens of a session."""
    return sessions_pb2.SessionTokens(
        access_token=issued.access_token,
        access_expire_time=fields.to_timestamp(issued.access_expires_at),
        refresh_token=issued.refresh_token,
        refresh_expire_time=fields.to_timestamp(issued.refresh_expires_at),
    )


def audit_entry(found: AuditEntry) -> audit_pb2.AuditEntry:
    """An audit entry."""
    entry = audit_pb2.AuditEntry(
        id=found.id,
        organization_id=found.organization_id,
        sequence=found.sequence,
        occur_time=fields.to_timestamp(found.occurred_at),
        action=found.action,
        resource_type=found.resource_type,
        resource_id=found.resource_id,
        actor_user_id=found.actor_user_id,
        actor_api_key_id=found.actor_api_key_id,
        actor_address=found.actor_address,
        request_id=found.request_id,
        hash=found.hash.hex(),
    )
    if found.before is not None:
        entry.before.update(found.before)
    if found.after is not None:
        entry.after.update(found.after)
    return entry


def reference(field: str, value: str, *, required: bool = True) -> str:
    """An id, name or address by which a thing is asked for."""
    return fields.text(field, value, max_length=_REF_MAX, required=required)


def name_position(page_token: str) -> str:
    """The name that a page begins after. Raises InvalidField."""
    position = fields.page_token(page_token)
    if "\x00" in position:
        raise InvalidField("page_token", "not a token that this list gave")
    return position


def time_position(page_token: str) -> tuple[datetime, str] | None:
    """The (time, id) that a page begins after; None for the first page. Raises InvalidField."""
    position = fields.page_token(page_token)
    if not position:
        return None
    try:
        # One JSON array: neither part can be taken for the other.
        stamp, identifier = json.loads(position)
        found = datetime.fromisoformat(stamp).astimezone(UTC), as_uuid(identifier)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise InvalidField("page_token", "not a token that this list gave") from None
    if not found[1]:
        raise InvalidField("page_token", "not a token that this list gave")
    return found


def to_time_token(moment: datetime, identifier: str) -> str:
    """The page token for a (time, id)."""
    return fields.to_page_token(json.dumps([moment.isoformat(), identifier]))
