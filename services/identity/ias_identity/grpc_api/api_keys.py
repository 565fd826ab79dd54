"""ApiKeyService."""

from ias.identity.v1 import api_keys_pb2

from ias_identity.domain.api_keys import ApiKeys
from ias_identity.grpc_api import mapping
from ias_runtime import fields
from ias_runtime.rpc import Call


class ApiKeyServicer:
    """Serves ias.identity.v1.ApiKeyService."""

    def __init__(self, api_keys: ApiKeys) -> None:
        self._api_keys = api_keys

    async def CreateApiKey(
        self, request: api_keys_pb2.CreateApiKeyRequest, call: Call
    ) -> api_keys_pb2.CreateApiKeyResponse:
        """See the contract."""
        created, secret = await self._api_keys.create(
            call.caller,
            fields.text("name", request.name, max_length=100),
            allowed_models=request.allowed_models,
            allowed_cidrs=request.allowed_cidrs,
            expires_at=(
                fields.moment("expire_time", request.expire_time)
                if request.HasField("expire_time")
                else None
            ),
        )
        return api_keys_pb2.CreateApiKeyResponse(api_key=mapping.api_key(created), secret=secret)

    async def GetApiKey(
        self, request: api_keys_pb2.GetApiKeyRequest, call: Call
    ) -> api_keys_pb2.GetApiKeyResponse:
        """See the contract."""
        found = await self._api_keys.get(
            call.caller, fields.uuid_text("api_key_id", request.api_key_id)
        )
        return api_keys_pb2.GetApiKeyResponse(api_key=mapping.api_key(found))

    async def ListApiKeys(
        self, request: api_keys_pb2.ListApiKeysRequest, call: Call
    ) -> api_keys_pb2.ListApiKeysResponse:
        """See the contract."""
        size = fields.page_size(request.page_size)
        found = await self._api_keys.list(
            call.caller,
            mapping.reference("organization_id", request.organization_id, required=False),
            fields.uuid_text("user_id", request.user_id, required=False),
            before=mapping.time_position(request.page_token),
            limit=size + 1,
        )
        last = found[size - 1] if len(found) > size else None
        return api_keys_pb2.ListApiKeysResponse(
            api_keys=[mapping.api_key(each) for each in found[:size]],
            next_page_token=mapping.to_time_token(last.created_at, last.id) if last else "",
        )

    async def RevokeApiKey(
        self, request: api_keys_pb2.RevokeApiKeyRequest, call: Call
    ) -> api_keys_pb2.RevokeApiKeyResponse:
        """See the contract."""
        revoked = await self._api_keys.revoke(
            call.caller, fields.uuid_text("api_key_id", request.api_key_id)
        )
        return api_keys_pb2.RevokeApiKeyResponse(api_key=mapping.api_key(revoked))
