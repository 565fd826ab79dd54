"""UserService."""

from ias.identity.v1 import users_pb2

from ias_identity.domain.users import Users, email_key
from ias_identity.grpc_api import mapping
from ias_runtime import fields
from ias_runtime.rpc import Call


class UserServicer:
    """Serves ias.identity.v1.UserService."""

    def __init__(self, users: Users) -> None:
        self._users = users

    async def InviteUser(
        self, request: users_pb2.InviteUserRequest, call: Call
    ) -> users_pb2.InviteUserResponse:
        """See the contract."""
        invited = await self._users.invite(
            call.caller,
            mapping.reference("organization_id", request.organization_id, required=False),
            fields.text("email", request.email, max_length=254),
            mapping.role(request.role),
        )
        return users_pb2.InviteUserResponse(
            user=mapping.user(invited.user),
            invitation_token=invited.token,
            expire_time=fields.to_timestamp(invited.expires_at),
        )

    async def GetUser(
        self, request: users_pb2.GetUserRequest, call: Call
    ) -> users_pb2.GetUserResponse:
        """See the contract."""
        found = await self._users.get(call.caller, mapping.reference("user_id", request.user_id))
        return users_pb2.GetUserResponse(user=mapping.user(found))

    async def ListUsers(
        self, request: users_pb2.ListUsersRequest, call: Call
    ) -> users_pb2.ListUsersResponse:
        """See the contract."""
        size = fields.page_size(request.page_size)
        found = await self._users.list(
            call.caller,
            mapping.reference("organization_id", request.organization_id, required=False),
            after=mapping.name_position(request.page_token),
            limit=size + 1,
        )
        last = email_key(found[size - 1].email) if len(found) > size else ""
        return users_pb2.ListUsersResponse(
            users=[mapping.user(each) for each in found[:size]],
            next_page_token=fields.to_page_token(last),
        )
