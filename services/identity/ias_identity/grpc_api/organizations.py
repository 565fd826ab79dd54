"""OrganizationService."""

from ias.identity.v1 import organizations_pb2

from ias_identity.domain.organizations import Organizations
from ias_identity.grpc_api import mapping
from ias_runtime import fields
from ias_runtime.rpc import Call


class OrganizationServicer:
    """Serves ias.identity.v1.OrganizationService."""

    def __init__(self, organizations: Organizations) -> None:
        self._organizations = organizations

    async def CreateOrganization(
        self, request: organizations_pb2.CreateOrganizationRequest, call: Call
    ) -> organizations_pb2.CreateOrganizationResponse:
        """See the contract."""
        created = await self._organizations.create(
            call.caller,
            fields.text("name", request.name, max_length=63),
            fields.text("display_name", request.display_name, max_length=200, required=False),
        )
        return organizations_pb2.CreateOrganizationResponse(
            organization=mapping.organization(created)
        )

    async def GetOrganization(
        self, request: organizations_pb2.GetOrganizationRequest, call: Call
    ) -> organizations_pb2.GetOrganizationResponse:
        """See the contract."""
        found = await self._organizations.get(
            call.caller, mapping.reference("organization_id", request.organization_id)
        )
        return organizations_pb2.GetOrganizationResponse(organization=mapping.organization(found))

    async def ListOrganizations(
        self, request: organizations_pb2.ListOrganizationsRequest, call: Call
    ) -> organizations_pb2.ListOrganizationsResponse:
        """See the contract."""
        size = fields.page_size(request.page_size)
        found = await self._organizations.list(
            call.caller, after=mapping.name_position(request.page_token), limit=size + 1
        )
        return organizations_pb2.ListOrganizationsResponse(
            organizations=[mapping.organization(each) for each in found[:size]],
            next_page_token=fields.to_page_token(found[size - 1].name if len(found) > size else ""),
        )
