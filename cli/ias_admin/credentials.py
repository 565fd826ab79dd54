"""Which token speaks for the person at the terminal, and how it is kept fresh.

In this order: IAS_TOKEN; the session of `ias-admin login`; IAS_ADMIN_EMAIL and
IAS_ADMIN_PASSWORD, which open one by themselves. A refresh token is good for one use, so two
processes that find the access token expired take turns on the configuration's lock.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import grpc
from ias_sdk.ias.identity import v1 as identity

from ias_admin.client import Credential, Fixed, Stubs
from ias_admin.config_file import Config, ConfigFile, Session
from ias_admin.errors import CliError, not_signed_in

_MARGIN = timedelta(seconds=30)
"""A token is renewed this long before it expires, for the call to arrive in time."""


def credential(
    environ: Mapping[str, str], file: ConfigFile, address: str, public: Stubs
) -> Credential:
    """What to show to the IAS at `address`."""
    token = environ.get("IAS_TOKEN")
    return Fixed(token) if token else SessionCredential(environ, file, address, public)


class SessionCredential:
    """The stored session, renewed when needed."""

    def __init__(
        self, environ: Mapping[str, str], file: ConfigFile, address: str, public: Stubs
    ) -> None:
        self._email = environ.get("IAS_ADMIN_EMAIL", "")
        self._password = environ.get("IAS_ADMIN_PASSWORD", "")
        self._file = file
        self._address = address
        self._public = public
        self._unsaved: Session | None = None

    def current(self) -> str:
        session = self._unsaved or self._file.read().sessions.get(self._address)
        if session is None or self._is_another_persons(session):
            return self._signed_in()
        if _fresh(session):
            return session.access_token
        return self._refreshed(session.access_token)

    def renewed(self, refused: str) -> str | None:
        return self._refreshed(refused)

    def _is_another_persons(self, session: Session) -> bool:
        """Whether the environment opened it for someone else than whom it names now."""
        return (
            session.automatic
            and self._can_sign_in
            and session.email.casefold() != self._email.casefold()
        )

    @property
    def _can_sign_in(self) -> bool:
        return bool(self._email and self._password)

    def _signed_in(self) -> str:
        """Opens a session from the environment. It is kept if it can be: a read-only home is no
        reason to fail, since the next run can open another."""
        if not self._can_sign_in:
            raise not_signed_in()
        answer = self._public.sessions.login(
            identity.LoginRequest(email=self._email, password=self._password)
        )
        session = session_of(answer.tokens, self._email, automatic=True)
        try:
            with self._file.edit() as config:
                config.sessions[self._address] = session
        except CliError:
            self._unsaved = session
        return session.access_token

    def _refreshed(self, stale: str) -> str:
        if self._unsaved is not None:
            return self._signed_in()
        with self._file.edit() as config:
            session = config.sessions.get(self._address)
            if session is not None and session.access_token != stale and _fresh(session):
                return session.access_token  # another process was quicker
            renewed = session and self._exchange(config, session)
        if renewed:
            return renewed
        if session is None or (
            self._can_sign_in and session.email.casefold() == self._email.casefold()
        ):
            return self._signed_in()
        raise not_signed_in(f"The session of {session.email} has ended.")

    def _exchange(self, config: Config, session: Session) -> str | None:
        """Uses the refresh token up. None, and the session forgotten, when it is refused."""
        try:
            answer = self._public.sessions.refresh(
                identity.RefreshRequest(refresh_token=session.refresh_token)
            )
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                raise
            del config.sessions[self._address]
            return None
        config.sessions[self._address] = session_of(
            answer.tokens, session.email, automatic=session.automatic
        )
        return config.sessions[self._address].access_token


def session_of(
    tokens: identity.SessionTokens | None, email: str, *, automatic: bool = False
) -> Session:
    """The tokens as they are kept."""
    if tokens is None or tokens.access_expire_time is None or tokens.refresh_expire_time is None:
        raise CliError("IAS answered without tokens.", "Is it of this version?")
    return Session(
        email=email,
        access_token=tokens.access_token,
        access_expire_time=tokens.access_expire_time,
        refresh_token=tokens.refresh_token,
        refresh_expire_time=tokens.refresh_expire_time,
        automatic=automatic,
    )


def _fresh(session: Session) -> bool:
    return session.access_expire_time - _MARGIN > datetime.now(UTC)
