"""Access: may whoever shows this credential do this, from there, with that model.

The whole of what ext_authz decides, without Envoy's messages. Whether the caller's role grants
the RPC itself is decided by the chassis of the service that is called.
"""

import hmac
import ipaddress
import time
from dataclasses import dataclass

from ias_identity.domain import api_keys
from ias_identity.domain.api_keys import KeyHasher
from ias_identity.domain.errors import (
    AddressNotAllowed,
    InvalidCredential,
    ModelNotFound,
    WrongCredentialKind,
)
from ias_identity.domain.model_routes import ModelRoutes
from ias_identity.domain.ports import Credentials, KeyUses
from ias_identity.domain.tokens import ACCESS_PREFIX, AccessTokens
from ias_runtime.caller import Caller, CallerKind, Role

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(slots=True)
class Credential:
    """What is known of a key or a session. Times are Unix seconds."""

    kind: CallerKind
    id: str
    lookup: str
    """What finds it: 12 characters of a key, the id of a session."""
    organization_id: str
    user_id: str
    role: Role
    secret_hash: bytes = b""
    """Of a key; a session's token proves itself."""
    expires_at: float | None = None
    ended: bool = False
    """Revoked, or logged out."""
    user_active: bool = True
    organization_active: bool = True
    allowed_models: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    loaded_at: float = 0.0
    """When the database was asked."""
    good_until: float = 0.0
    """Until when it may be used without asking again."""
    live: bool = True
    """False once something about it has changed: whoever holds it must ask again."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to be judged."""

    credential: str
    """The bearer token; empty when none was sent."""
    address: str
    model: str
    """The model asked for; empty when none, or when the request is not about one."""
    needs_key: bool
    """Whether this is inference, which only API keys may call."""


@dataclass(frozen=True, slots=True)
class Granted:
    """A yes: as whom, by which credential, and until when it may be repeated unasked."""

    caller: Caller
    credential: Credential
    until: float


class Access:
    """Judges requests."""

    def __init__(
        self,
        credentials: Credentials,
        hasher: KeyHasher,
        tokens: AccessTokens,
        uses: KeyUses,
        models: ModelRoutes,
    ) -> None:
        self._models = models
        self._credentials = credentials
        self._hasher = hasher
        self._tokens = tokens
        self._uses = uses

    async def authorize(self, ask: Ask) -> Granted:
        """Raises InvalidCredential, WrongCredentialKind, AddressNotAllowed, ModelNotFound, and
        Unavailable when the credential isn't known here and the database can't be asked.
        """
        if not ask.credential:
            raise InvalidCredential(
                "No credential was sent. Send `Authorization: Bearer ias_…`; an API key is made"
                " with `ias-admin key create`."
            )
        if ask.credential.startswith(ACCESS_PREFIX):
            return await self._session(ask)
        return await self._key(ask)

    async def _key(self, ask: Ask) -> Granted:
        if not api_keys.is_well_formed(ask.credential):
            raise _incorrect(ask.credential)
        found = await self._credentials.find(CallerKind.API_KEY, api_keys.lookup_of(ask.credential))
        if found is None or not hmac.compare_digest(
            found.secret_hash, self._hasher.hash(ask.credential)
        ):
            raise _incorrect(ask.credential)
        now = time.time()
        self._check_state(found, now, f"API key {api_keys.display(ask.credential)}")
        if found.networks and not _within(ask.address, found.networks):
            raise AddressNotAllowed(ask.address)
        allowed = found.allowed_models
        if ask.model and allowed and not self._models.allows(allowed, ask.model):
            raise ModelNotFound(ask.model)
        self._uses.used(found.id, now, ask.address)
        caller = Caller(
            kind=CallerKind.API_KEY,
            role=found.role,
            organization_id=found.organization_id,
            user_id=found.user_id,
            api_key_id=found.id,
            model=ask.model,
            allowed_models=allowed,
            address=ask.address,
        )
        return Granted(caller, found, _earliest(found.good_until, found.expires_at))

    async def _session(self, ask: Ask) -> Granted:
        read = self._tokens.read(ask.credential)
        now = time.time()
        if read is None or read[1] <= now:
            raise InvalidCredential("This session has expired; log in again (ias-admin login).")
        session_id, expires_at = read
        found = await self._credentials.find(CallerKind.SESSION, session_id)
        if found is None:
            raise InvalidCredential("There is no such session; log in again (ias-admin login).")
        self._check_state(found, now, "session")
        if ask.needs_key:
            raise WrongCredentialKind(
                "Use an API key for inference, not a session; make one with"
                " `ias-admin key create`.",
                expected="api_key",
            )
        caller = Caller(
            kind=CallerKind.SESSION,
            role=found.role,
            organization_id=found.organization_id,
            user_id=found.user_id,
            session_id=session_id,
            address=ask.address,
        )
        return Granted(caller, found, _earliest(found.good_until, expires_at))

    @staticmethod
    def _check_state(found: Credential, now: float, what: str) -> None:
        """Only for who has proved to hold it, so saying what is wrong gives nothing away."""
        if found.ended:
            raise InvalidCredential(f"This {what} was revoked or has ended; get a new one.")
        if found.expires_at is not None and found.expires_at <= now:
            raise InvalidCredential(f"This {what} has expired; get a new one.")
        if not found.user_active:
            raise InvalidCredential(f"The owner of this {what} is not active; ask an admin.")
        if not found.organization_active:
            raise InvalidCredential(f"The organisation of this {what} is suspended.")


def _incorrect(credential: str) -> InvalidCredential:
    shown = api_keys.display(credential) if api_keys.is_well_formed(credential) else "(malformed)"
    return InvalidCredential(
        f"Incorrect API key provided: {shown}. Check it for missing characters, or make a new"
        " one with `ias-admin key create`."
    )


def _within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    # A dual-stack listener reports an IPv4 client as ::ffff:a.b.c.d.
    mapped = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in network for network in networks)


def _earliest(moment: float, other: float | None) -> float:
    return moment if other is None else min(moment, other)
