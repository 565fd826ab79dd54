"""Organisations: the tenants."""

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from ias_identity.domain.ports import OrganizationStore
from ias_runtime.caller import Caller
from ias_runtime.errors import InvalidField, NotFound

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class OrganizationStatus(StrEnum):
    """Whether an organisation is served."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Organization:
    """A tenant."""

    id: str
    name: str
    display_name: str
    status: OrganizationStatus
    created_at: datetime


class Organizations:
    """What may be done with organisations, and by whom."""

    def __init__(self, store: OrganizationStore) -> None:
        self._store = store

    async def create(self, caller: Caller, name: str, display_name: str) -> Organization:
        """Creates one. Raises InvalidField for a bad name, AlreadyExists when it is taken."""
        if not _NAME.fullmatch(name):
            raise InvalidField(
                "name",
                "1 to 63 characters of a-z, 0-9 and -, beginning and ending with a letter or digit",
            )
        if as_uuid(name):
            raise InvalidField("name", "must not look like a UUID: it could be taken for an id")
        organization = Organization(
            id=str(uuid.uuid4()),
            name=name,
            display_name=display_name or name,
            status=OrganizationStatus.ACTIVE,
            created_at=datetime.now(UTC),
        )
        await self._store.add(caller, organization)
        return organization

    async def get(self, caller: Caller, id_or_name: str) -> Organization:
        """The one of that id or name. Raises NotFound when absent or another's, alike."""
        identifier = as_uuid(id_or_name)
        if identifier:
            found = await self._store.find(identifier)
        elif _NAME.fullmatch(id_or_name):
            found = await self._store.find_by_name(id_or_name)
        else:
            found = None
        if found is None or not (caller.is_system_admin or found.id == caller.organization_id):
            raise NotFound("organization", id_or_name)
        return found

    async def list(self, caller: Caller, *, after: str, limit: int) -> list[Organization]:
        """Those that the caller may see, by name, beginning after the name `after`."""
        only = None if caller.is_system_admin else caller.organization_id
        return await self._store.list(only=only, after=after, limit=limit)

    async def scope(self, caller: Caller, asked_for: str) -> str | None:
        """The id of the organisation that a request is about; None means all of them.

        `asked_for` is an id or a name. Raises NotFound when absent or another's.
        """
        if not asked_for:
            return caller.organization_filter("")
        return (await self.get(caller, asked_for)).id


def as_uuid(text: str) -> str:
    """The canonical form of a UUID; empty when it is none."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return ""
