"""Who is calling: a plain fact that every rule gets handed, never an ambient one."""

from dataclasses import dataclass
from enum import StrEnum

from ias_runtime.errors import InvalidField, NotFound


class CallerKind(StrEnum):
    """How the caller proved themselves."""

    ANONYMOUS = "anonymous"
    SESSION = "session"
    API_KEY = "api_key"
    SERVICE = "service"
    """Another service of IAS, or its own command line."""


class Role(StrEnum):
    """The predefined roles; what each grants is in ias.access.v1.Role."""

    NONE = ""
    SYSTEM_ADMIN = "system_admin"
    ORG_ADMIN = "org_admin"
    ORG_USER = "org_user"


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified caller. Ids are UUIDs in canonical form, or empty where there is none."""

    kind: CallerKind
    role: Role = Role.NONE
    organization_id: str = ""
    user_id: str = ""
    api_key_id: str = ""
    session_id: str = ""
    model: str = ""
    """The model that identity allowed for this request; empty when none was asked for."""
    allowed_models: tuple[str, ...] = ()
    """The models that the API key is restricted to; empty means every model of its organisation."""
    service: str = ""
    """Which service, for CallerKind.SERVICE."""
    address: str = ""
    request_id: str = ""

    @property
    def is_system_admin(self) -> bool:
        """Whether the caller may act on organisations other than their own."""
        return self.role is Role.SYSTEM_ADMIN

    def organization(self, asked_for: str, resource: str = "organization") -> str:
        """The organisation that a request is about: the one asked for, else the caller's own.

        Raises NotFound when it is another's, and InvalidField when a System Admin names none.
        """
        if self.is_system_admin:
            if not asked_for:
                raise InvalidField(
                    "organization_id", "required: a System Admin has no organisation"
                )
            return asked_for
        if asked_for and asked_for != self.organization_id:
            raise NotFound(resource, asked_for)
        return self.organization_id

    def organization_filter(self, asked_for: str) -> str | None:
        """Like `organization`, but None (meaning all) for a System Admin who names none."""
        if self.is_system_admin and not asked_for:
            return None
        return self.organization(asked_for)


SYSTEM = Caller(kind=CallerKind.SERVICE, role=Role.SYSTEM_ADMIN, service="system")
"""IAS itself, as from the command line of a service."""
