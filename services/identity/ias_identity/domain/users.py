"""Users: the people of an organisation, and the System Admins."""

import re
import secrets
import unicodedata
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from ias_identity.domain import passwords
from ias_identity.domain.organizations import Organizations, OrganizationStatus, as_uuid
from ias_identity.domain.ports import PasswordHashes, UserStore
from ias_identity.domain.tokens import hash_token
from ias_runtime.caller import SYSTEM, Caller, Role
from ias_runtime.errors import AlreadyExists, FailedPrecondition, InvalidField, NotFound

INVITATION_TTL = timedelta(days=7)
INVITATION_PREFIX = "iasi_"
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]+")
_EMAIL_MAX = 254  # RFC 5321, 4.5.3.1.3


class UserStatus(StrEnum):
    """Whether a user may sign in."""

    PENDING = "pending"
    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class User:
    """A person. `organization_id` is empty for a System Admin."""

    id: str
    organization_id: str
    email: str
    role: Role
    status: UserStatus
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Invitation:
    """The right to set a password, once, until `expires_at`. Only the token's hash is kept."""

    token_hash: bytes
    user_id: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Invited:
    """A new user, and the secret of their invitation."""

    user: User
    token: str
    expires_at: datetime


class Users:
    """What may be done with users, and by whom."""

    def __init__(
        self, store: UserStore, organizations: Organizations, hashes: PasswordHashes
    ) -> None:
        self._store = store
        self._organizations = organizations
        self._hashes = hashes

    async def invite(self, caller: Caller, organization: str, email: str, role: Role) -> Invited:
        """Invites a person as Org Admin or Org User.

        Raises InvalidField for a bad address or role, NotFound for an organisation that is not
        the caller's, FailedPrecondition when it is suspended, AlreadyExists for a known address.
        """
        check_email(email)
        if role not in (Role.ORG_ADMIN, Role.ORG_USER):
            raise InvalidField("role", "must be ROLE_ORG_ADMIN or ROLE_ORG_USER")
        into = await self._organizations.get(
            caller, organization or caller.organization(organization)
        )
        if into.status is not OrganizationStatus.ACTIVE:
            raise FailedPrecondition(
                "The organisation is suspended.",
                metadata={"resource": "organization", "state": into.status.value},
            )
        now = datetime.now(UTC)
        user = User(
            id=str(uuid.uuid4()),
            organization_id=into.id,
            email=email,
            role=role,
            status=UserStatus.PENDING,
            created_at=now,
        )
        token = INVITATION_PREFIX + secrets.token_urlsafe(32)
        invitation = Invitation(hash_token(token), user.id, now, now + INVITATION_TTL)
        await self._store.add_invited(caller, user, invitation)
        return Invited(user, token, invitation.expires_at)

    async def get(self, caller: Caller, id_or_email: str) -> User:
        """The one of that id or address. Raises NotFound when absent or another's, alike."""
        identifier = as_uuid(id_or_email)
        if identifier:
            found = await self._store.find(identifier)
        else:
            found = await self._store.find_by_email(email_key(id_or_email))
        visible = caller.is_system_admin or (
            found is not None and found.organization_id == caller.organization_id
        )
        if found is None or not visible:
            raise NotFound("user", id_or_email)
        return found

    async def list(
        self, caller: Caller, organization: str, *, after: str, limit: int
    ) -> list[User]:
        """Those of an organisation (all, for a System Admin who names none), by address."""
        only = await self._organizations.scope(caller, organization)
        return await self._store.list(organization_id=only, after=after, limit=limit)

    async def whoami(self, caller: Caller) -> User:
        """The person who calls, or the owner of the key. Raises NotFound when removed since."""
        found = await self._store.find(caller.user_id) if caller.user_id else None
        if found is None:
            raise NotFound("user", caller.user_id)
        return found

    async def super_admin_exists(self, email: str) -> bool:
        """Whether there is such a System Admin. Raises AlreadyExists when another user has it."""
        check_email(email)
        found = await self._store.find_by_email(email_key(email))
        if found is None:
            return False
        if found.role is not Role.SYSTEM_ADMIN:
            raise AlreadyExists("user", email)
        return True

    async def create_super_admin(self, email: str, password: str) -> User:
        """Creates a System Admin, as IAS itself. Raises WeakPassword, AlreadyExists."""
        check_email(email)
        passwords.check(password, email)
        user = User(
            id=str(uuid.uuid4()),
            organization_id="",
            email=email,
            role=Role.SYSTEM_ADMIN,
            status=UserStatus.ACTIVE,
            created_at=datetime.now(UTC),
        )
        await self._store.add_active(SYSTEM, user, await self._hashes.hash(password))
        return user


def check_email(email: str) -> None:
    """Raises InvalidField unless it has the shape of an address."""
    if len(email) > _EMAIL_MAX or not _EMAIL.fullmatch(email) or not email.isprintable():
        raise InvalidField("email", "must be an e-mail address of at most 254 characters")


def email_key(email: str) -> str:
    """What two spellings of one address have in common (NFKC, case-folded)."""
    return unicodedata.normalize("NFKC", email.strip()).casefold()
