"""What the rules need from the outside, and what happens on absence and on failure.

Every store writes a change, its audit entry and the note for other processes' caches in one
transaction, and raises Unavailable (through the chassis) when the database can't be asked.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from ias_runtime.caller import Caller, CallerKind

if TYPE_CHECKING:
    from ias_identity.domain.access import Credential
    from ias_identity.domain.api_keys import ApiKey
    from ias_identity.domain.audit import AuditEntry
    from ias_identity.domain.organizations import Organization
    from ias_identity.domain.sessions import LoginFacts, NewRefreshToken, NewSession, Rotation
    from ias_identity.domain.users import Invitation, User


class OrganizationStore(Protocol):
    """Organisations."""

    async def add(self, caller: Caller, organization: Organization) -> None:
        """Adds one, audited. Raises AlreadyExists when the name is taken."""
        ...

    async def find(self, organization_id: str) -> Organization | None:
        """None if there is none of that id."""
        ...

    async def find_by_name(self, name: str) -> Organization | None:
        """None if there is none of that name."""
        ...

    async def list(self, *, only: str | None, after: str, limit: int) -> list[Organization]:
        """By name, beginning after `after`; just the one of id `only`, when given."""
        ...


class UserStore(Protocol):
    """Users and their invitations."""

    async def add_invited(self, caller: Caller, user: User, invitation: Invitation) -> None:
        """Adds a pending user and the invitation, audited as user.invite in the user's log.

        Raises AlreadyExists for a known address.
        """
        ...

    async def add_active(self, caller: Caller, user: User, password_hash: str) -> None:
        """Adds an active user, audited as user.create. Raises AlreadyExists."""
        ...

    async def find(self, user_id: str) -> User | None:
        """None if there is none of that id."""
        ...

    async def find_by_email(self, email_key: str) -> User | None:
        """None if there is none of that address (as made by users.email_key)."""
        ...

    async def list(self, *, organization_id: str | None, after: str, limit: int) -> list[User]:
        """By address, beginning after the e-mail key `after`; of all organisations when None."""
        ...


class SessionStore(Protocol):
    """Sessions, their refresh tokens, and what opening one needs."""

    async def login_facts(self, email_key: str) -> LoginFacts | None:
        """None if nobody has that address."""
        ...

    async def open(self, caller: Caller, session: NewSession) -> None:
        """Stores a session, audited as session.login of the caller."""
        ...

    async def rotate(self, caller: Caller, token_hash: bytes, new: NewRefreshToken) -> Rotation:
        """Uses up a refresh token and stores its successor.

        A used one ends its session, audited as session.end. Empty for an unknown or expired token,
        an ended session, and a user or organisation that is not active.
        """
        ...

    async def end(self, caller: Caller, session_id: str) -> bool:
        """Ends a session, audited as session.logout. False if it had ended before."""
        ...

    async def invited(self, token_hash: bytes) -> User | None:
        """Whose open invitation it is; None if unknown, used, expired or no longer pending."""
        ...

    async def accept(
        self, caller: Caller, token_hash: bytes, password_hash: str, session: NewSession
    ) -> User | None:
        """Uses up an invitation, makes its user active, opens a session; audited as user.activate.

        None if the invitation has been used up since.
        """
        ...


class ApiKeyStore(Protocol):
    """API keys."""

    async def add(self, caller: Caller, key: ApiKey, secret_hash: bytes) -> None:
        """Adds one, audited as api_key.create."""
        ...

    async def find(self, key_id: str) -> ApiKey | None:
        """None if there is none of that id."""
        ...

    async def list(
        self,
        *,
        organization_id: str | None,
        user_id: str | None,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> list[ApiKey]:
        """Newest first, beginning after the (creation time, id) `before`."""
        ...

    async def revoke(self, caller: Caller, key_id: str) -> ApiKey | None:
        """Revokes it, audited as api_key.revoke unless it was revoked before. None if absent."""
        ...


class AuditLog(Protocol):
    """The audit log, to be read."""

    async def list(
        self,
        *,
        organization_id: str | None,
        action: str | None,
        resource_id: str | None,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> list[AuditEntry]:
        """Newest first, beginning after the (time, id) `before`; every log when None."""
        ...


class PasswordHashes(Protocol):
    """Hashes of passwords: slow on purpose, off the event loop."""

    async def hash(self, password: str) -> str:
        """The hash to store. Raises Unavailable when too many wait for theirs."""
        ...

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether they belong together. None takes as long and is never right."""
        ...


class LoginAttempts(Protocol):
    """Counts attempts to log in. Never fails: without its store it counts for itself."""

    async def begin(self, account: str, address: str) -> float:
        """Counts an attempt; 0, or the seconds to wait (then nothing was counted)."""
        ...

    async def succeeded(self, account: str, address: str) -> None:
        """Forgives the account its failures, and the address this attempt."""
        ...


class Announcer(Protocol):
    """Tells every process to drop what it holds of a thing that has changed."""

    async def announce(self, kind: str, identifier: str) -> None:
        """To be called after the commit. Never fails: the database's note is the second way."""
        ...


class Credentials(Protocol):
    """What is known of keys and sessions, from the nearest cache that knows."""

    async def find(self, kind: CallerKind, lookup: str) -> Credential | None:
        """None if there is none. Raises Unavailable when no cache has it and the database
        can't be asked.
        """
        ...


class KeyUses(Protocol):
    """Notes when and from where keys are used, for later."""

    def used(self, key_id: str, at: float, address: str) -> None:
        """Costs nothing and never fails."""
        ...
