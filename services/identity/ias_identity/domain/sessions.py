"""Sessions: how people sign in and out. A session is a family of refresh tokens."""

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ias_identity.domain import passwords
from ias_identity.domain.errors import (
    BadLogin,
    InvalidCredential,
    InvalidInvitation,
    LoginSlowed,
    WrongCredentialKind,
)
from ias_identity.domain.ports import Announcer, LoginAttempts, PasswordHashes, SessionStore
from ias_identity.domain.tokens import (
    REFRESH_PREFIX,
    REFRESH_TTL,
    AccessTokens,
    hash_token,
    new_refresh_token,
)
from ias_identity.domain.users import INVITATION_PREFIX, User, UserStatus, email_key
from ias_runtime.caller import Caller


@dataclass(frozen=True, slots=True)
class SessionTokens:
    """What a person's client keeps."""

    access_token: str
    access_expires_at: datetime
    refresh_token: str
    refresh_expires_at: datetime


@dataclass(frozen=True, slots=True)
class NewRefreshToken:
    """What is stored of a refresh token."""

    token_hash: bytes
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class NewSession:
    """What is stored of a session when it opens."""

    id: str
    user_id: str
    created_at: datetime
    refresh: NewRefreshToken


@dataclass(frozen=True, slots=True)
class LoginFacts:
    """What a login is judged by. `password_hash` is None for someone who has set none."""

    user: User
    password_hash: str | None
    organization_active: bool


@dataclass(frozen=True, slots=True)
class Rotation:
    """What became of a refresh token: `session_id` when it was good, else empty."""

    session_id: str = ""
    ended_session_id: str = ""
    """The session that was ended because the token had been used before."""


class Sessions:
    """Signs people in and out."""

    def __init__(
        self,
        store: SessionStore,
        hashes: PasswordHashes,
        attempts: LoginAttempts,
        tokens: AccessTokens,
        announcer: Announcer,
    ) -> None:
        self._store = store
        self._hashes = hashes
        self._attempts = attempts
        self._tokens = tokens
        self._announcer = announcer

    async def login(self, caller: Caller, email: str, password: str) -> tuple[SessionTokens, User]:
        """Opens a session. Raises BadLogin, or LoginSlowed after repeated failures."""
        account = email_key(email)
        # Counted before the password is tried, so that many at once are no way around it.
        wait_s = await self._attempts.begin(account, caller.address)
        if wait_s > 0:
            raise LoginSlowed(wait_s)
        facts = await self._store.login_facts(account)
        # An unknown address takes as long as a known one: a hash is tried in either case.
        right = await self._hashes.verify(facts.password_hash if facts else None, password)
        if not right or facts is None:
            raise BadLogin
        if facts.user.status is not UserStatus.ACTIVE or not facts.organization_active:
            raise BadLogin
        await self._attempts.succeeded(account, caller.address)
        tokens, session = self._new_session(facts.user.id)
        await self._store.open(_as(caller, facts.user, session.id), session)
        return tokens, facts.user

    async def refresh(self, caller: Caller, refresh_token: str) -> SessionTokens:
        """New tokens for a refresh token, which is used up. Raises InvalidCredential.

        Showing a used one ends the session: one of the two who had it stole it.
        """
        refused = InvalidCredential("This refresh token is unknown, used or expired; log in again.")
        if not refresh_token.startswith(REFRESH_PREFIX):
            raise refused
        token, stored = _new_refresh()
        rotation = await self._store.rotate(caller, hash_token(refresh_token), stored)
        if rotation.ended_session_id:
            await self._announcer.announce("session", rotation.ended_session_id)
        if not rotation.session_id:
            raise refused
        access, expires_at = self._tokens.issue(rotation.session_id)
        return SessionTokens(access, expires_at, token, stored.expires_at)

    async def logout(self, caller: Caller) -> None:
        """Ends the caller's session. Raises WrongCredentialKind for an API key."""
        if not caller.session_id:
            raise WrongCredentialKind(
                "Only a session can log out; revoke an API key instead.", expected="session"
            )
        if await self._store.end(caller, caller.session_id):
            await self._announcer.announce("session", caller.session_id)

    async def accept_invite(
        self, caller: Caller, invitation_token: str, password: str
    ) -> tuple[SessionTokens, User]:
        """Sets a password and opens a session. Raises InvalidInvitation, WeakPassword."""
        if not invitation_token.startswith(INVITATION_PREFIX):
            raise InvalidInvitation
        token_hash = hash_token(invitation_token)
        invited = await self._store.invited(token_hash)
        if invited is None:
            raise InvalidInvitation
        passwords.check(password, invited.email)
        password_hash = await self._hashes.hash(password)
        tokens, session = self._new_session(invited.id)
        user = await self._store.accept(
            _as(caller, invited, session.id), token_hash, password_hash, session
        )
        if user is None:
            raise InvalidInvitation
        await self._announcer.announce("user", user.id)
        return tokens, user

    def _new_session(self, user_id: str) -> tuple[SessionTokens, NewSession]:
        session_id = str(uuid.uuid4())
        token, refresh = _new_refresh()
        access, expires_at = self._tokens.issue(session_id)
        return (
            SessionTokens(access, expires_at, token, refresh.expires_at),
            NewSession(session_id, user_id, datetime.now(UTC), refresh),
        )


def _new_refresh() -> tuple[str, NewRefreshToken]:
    token = new_refresh_token()
    return token, NewRefreshToken(hash_token(token), datetime.now(UTC) + REFRESH_TTL)


def _as(caller: Caller, user: User, session_id: str) -> Caller:
    """The caller as the person they have just proved to be, for the audit log."""
    return replace(
        caller,
        role=user.role,
        user_id=user.id,
        organization_id=user.organization_id,
        session_id=session_id,
    )
