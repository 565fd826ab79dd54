"""SessionService."""

from ias.identity.v1 import sessions_pb2

from ias_identity.domain.passwords import MAX_BYTES
from ias_identity.domain.sessions import Sessions
from ias_identity.domain.users import Users
from ias_identity.grpc_api import mapping
from ias_runtime import fields
from ias_runtime.errors import InvalidField
from ias_runtime.rpc import Call


class SessionServicer:
    """Serves ias.identity.v1.SessionService."""

    def __init__(self, sessions: Sessions, users: Users) -> None:
        self._sessions = sessions
        self._users = users

    async def Login(
        self, request: sessions_pb2.LoginRequest, call: Call
    ) -> sessions_pb2.LoginResponse:
        """See the contract."""
        issued, user = await self._sessions.login(
            call.caller,
            fields.text("email", request.email, max_length=254),
            _secret("password", request.password),
        )
        return sessions_pb2.LoginResponse(tokens=mapping.tokens(issued), user=mapping.user(user))

    async def Refresh(
        self, request: sessions_pb2.RefreshRequest, call: Call
    ) -> sessions_pb2.RefreshResponse:
        """See the contract."""
        issued = await self._sessions.refresh(
            call.caller, _secret("refresh_token", request.refresh_token)
        )
        return sessions_pb2.RefreshResponse(tokens=mapping.tokens(issued))

    async def Logout(
        self, _: sessions_pb2.LogoutRequest, call: Call
    ) -> sessions_pb2.LogoutResponse:
        """See the contract."""
        await self._sessions.logout(call.caller)
        return sessions_pb2.LogoutResponse()

    async def AcceptInvite(
        self, request: sessions_pb2.AcceptInviteRequest, call: Call
    ) -> sessions_pb2.AcceptInviteResponse:
        """See the contract."""
        issued, user = await self._sessions.accept_invite(
            call.caller,
            _secret("invitation_token", request.invitation_token),
            _secret("password", request.password),
        )
        return sessions_pb2.AcceptInviteResponse(
            tokens=mapping.tokens(issued), user=mapping.user(user)
        )

    async def Whoami(
        self, _: sessions_pb2.WhoamiRequest, call: Call
    ) -> sessions_pb2.WhoamiResponse:
        """See the contract."""
        found = await self._users.whoami(call.caller)
        return sessions_pb2.WhoamiResponse(
            user=mapping.user(found), api_key_id=call.verified.api_key_id
        )


def _secret(field: str, value: str) -> str:
    """Anything but nothing: a secret is neither trimmed nor shown in an error."""
    if not value:
        raise InvalidField(field, "required")
    if len(value.encode()) > MAX_BYTES:
        raise InvalidField(field, f"at most {MAX_BYTES} bytes")
    return value
