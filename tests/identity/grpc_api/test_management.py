"""Organisations, users, keys and the audit log, as their callers see them."""

import uuid
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from ias.identity.v1 import api_keys_pb2, audit_pb2, organizations_pb2, users_pb2

Org = organizations_pb2


async def create_organization(identity, name, **fields):
    return await identity.organizations.CreateOrganization(
        Org.CreateOrganizationRequest(name=name, **fields), metadata=identity.admin
    )


async def entries(identity, metadata, **filters):
    answer = await identity.audit.ListAuditEntries(
        audit_pb2.ListAuditEntriesRequest(**filters), metadata=metadata
    )
    return answer.entries


@pytest.mark.parametrize(
    "name", ["", "Acme", "-a", "a-", "a b", "a" * 64, "ä", str(uuid.uuid4()), "a\x00b"]
)
async def test_a_bad_organisation_name_is_refused(identity, refused, name):
    answer = await refused(create_organization(identity, name))
    assert (answer.code, answer.metadata["field"]) == ("INVALID_ARGUMENT", "name")


async def test_an_organisation_is_found_by_id_and_by_name(identity):
    name = f"o-{uuid.uuid4().hex[:8]}"
    made = (await create_organization(identity, name, display_name="Acme & Söhne")).organization
    for reference in (made.id, made.id.upper(), name):
        found = await identity.organizations.GetOrganization(
            Org.GetOrganizationRequest(organization_id=reference), metadata=identity.admin
        )
        assert found.organization == made
    assert made.display_name == "Acme & Söhne"
    assert made.status == Org.ORGANIZATION_STATUS_ACTIVE


async def test_a_taken_name_is_refused(identity, tenant, refused):
    answer = await refused(create_organization(identity, tenant.name))
    assert (answer.code, answer.metadata["name"]) == ("ALREADY_EXISTS", tenant.name)


async def test_anothers_organisation_and_a_missing_one_are_answered_alike(
    identity, tenant, refused
):
    other = await identity.new_tenant()
    for reference in (other.id, other.name, str(uuid.uuid4()), "missing", "Bad Name"):
        answer = await refused(
            identity.organizations.GetOrganization(
                Org.GetOrganizationRequest(organization_id=reference), metadata=tenant.admin
            )
        )
        assert (answer.code, answer.reason) == ("NOT_FOUND", "NOT_FOUND")
        assert answer.message == f"No organization '{reference}'."


async def test_a_member_lists_only_their_own_organisation(identity, tenant):
    for who in (tenant.admin, tenant.user):
        listed = await identity.organizations.ListOrganizations(
            Org.ListOrganizationsRequest(), metadata=who
        )
        assert [each.id for each in listed.organizations] == [tenant.id]


async def test_pages_follow_each_other_without_gaps(identity):
    for _ in range(5):
        await identity.new_tenant()
    seen, token = [], ""
    while True:
        page = await identity.organizations.ListOrganizations(
            Org.ListOrganizationsRequest(page_size=2, page_token=token), metadata=identity.admin
        )
        assert len(page.organizations) <= 2
        seen += [each.name for each in page.organizations]
        token = page.next_page_token
        if not token:
            break
    everything = await identity.organizations.ListOrganizations(
        Org.ListOrganizationsRequest(), metadata=identity.admin
    )
    assert seen == [each.name for each in everything.organizations]
    assert len(set(seen)) == len(seen) >= 5


@pytest.mark.parametrize("token", ["!", "AAAA", "W10=", "AA==", "eyJhIjoxfQ==", "🦊"])
async def test_a_made_up_page_token_is_never_an_internal_error(identity, tenant, token):
    lists = [
        (identity.organizations.ListOrganizations, Org.ListOrganizationsRequest),
        (identity.users.ListUsers, users_pb2.ListUsersRequest),
        (identity.api_keys.ListApiKeys, api_keys_pb2.ListApiKeysRequest),
        (identity.audit.ListAuditEntries, audit_pb2.ListAuditEntriesRequest),
    ]
    for method, request in lists:
        try:
            await method(request(page_token=token), metadata=tenant.admin)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_address_is_unique_whatever_its_case(identity, tenant, refused):
    email = f"Ann.{uuid.uuid4().hex[:6]}@Example.TEST"
    invite = identity.users.InviteUser
    made = await invite(users_pb2.InviteUserRequest(email=email), metadata=tenant.admin)
    assert made.user.status == users_pb2.USER_STATUS_PENDING
    answer = await refused(
        invite(users_pb2.InviteUserRequest(email=email.lower()), metadata=tenant.admin)
    )
    assert answer.code == "ALREADY_EXISTS"
    found = await identity.users.GetUser(
        users_pb2.GetUserRequest(user_id=email.upper()), metadata=tenant.admin
    )
    assert found.user == made.user


@pytest.mark.parametrize("email", ["", "x", "a@b@c", "a b@c", "@c", "a@", "a" * 255 + "@x.test"])
async def test_a_bad_address_is_refused(identity, tenant, refused, email):
    answer = await refused(
        identity.users.InviteUser(users_pb2.InviteUserRequest(email=email), metadata=tenant.admin)
    )
    assert (answer.code, answer.metadata["field"]) == ("INVALID_ARGUMENT", "email")


@pytest.mark.parametrize("role", [1, 99])
async def test_nobody_is_invited_as_a_system_admin(identity, tenant, refused, role):
    for who in (tenant.admin, identity.admin):
        answer = await refused(
            identity.users.InviteUser(
                users_pb2.InviteUserRequest(organization_id=tenant.id, email="a@b.test", role=role),
                metadata=who,
            )
        )
        assert (answer.code, answer.metadata["field"]) == ("INVALID_ARGUMENT", "role")


async def test_an_org_admin_neither_sees_nor_invites_elsewhere(identity, tenant, refused):
    other = await identity.new_tenant()
    calls = [
        identity.users.InviteUser(
            users_pb2.InviteUserRequest(organization_id=other.id, email="a@b.test"),
            metadata=tenant.admin,
        ),
        identity.users.GetUser(
            users_pb2.GetUserRequest(user_id=other.user_user.id), metadata=tenant.admin
        ),
        identity.users.GetUser(
            users_pb2.GetUserRequest(user_id=other.user_user.email), metadata=tenant.admin
        ),
        identity.users.GetUser(
            users_pb2.GetUserRequest(user_id=identity.admin_id), metadata=tenant.admin
        ),
        identity.users.ListUsers(
            users_pb2.ListUsersRequest(organization_id=other.id), metadata=tenant.admin
        ),
        identity.api_keys.ListApiKeys(
            api_keys_pb2.ListApiKeysRequest(organization_id=other.id), metadata=tenant.admin
        ),
        identity.audit.ListAuditEntries(
            audit_pb2.ListAuditEntriesRequest(organization_id=other.id), metadata=tenant.admin
        ),
    ]
    for call in calls:
        assert (await refused(call)).code == "NOT_FOUND"


async def test_users_are_listed_by_organisation_and_for_a_system_admin_all(identity, tenant):
    mine = await identity.users.ListUsers(users_pb2.ListUsersRequest(), metadata=tenant.admin)
    assert {each.organization_id for each in mine.users} == {tenant.id}
    everyone = await identity.users.ListUsers(
        users_pb2.ListUsersRequest(page_size=1000), metadata=identity.admin
    )
    assert identity.admin_id in {each.id for each in everyone.users}


async def test_a_key_is_shown_once_and_then_only_in_part(identity, tenant):
    made = await tenant.new_key(name="shown once")
    assert made.secret.startswith("ias_")
    assert len(made.secret) == 56
    found = await identity.api_keys.GetApiKey(
        api_keys_pb2.GetApiKeyRequest(api_key_id=made.api_key.id), metadata=tenant.user
    )
    assert found.api_key == made.api_key
    assert found.api_key.display == f"{made.secret[:8]}…{made.secret[-4:]}"
    assert made.secret not in str(found)


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"allowed_cidrs": ["10.0.0.1/8"]}, "allowed_cidrs"),
        ({"allowed_cidrs": ["nonsense"]}, "allowed_cidrs"),
        ({"allowed_cidrs": ["10.0.0.0/8"] * 101}, "allowed_cidrs"),
        ({"allowed_models": ["m"] * 101}, "allowed_models"),
        ({"allowed_models": [""]}, "allowed_models"),
        ({"expire_time": Timestamp(seconds=1)}, "expire_time"),
        ({"expire_time": Timestamp(seconds=1 << 50)}, "expire_time"),
    ],
)
async def test_a_bad_field_of_a_key_is_named(tenant, refused, bad, field):
    answer = await refused(tenant.new_key(**bad))
    assert (answer.code, answer.metadata["field"]) == ("INVALID_ARGUMENT", field)


async def test_who_sees_which_key(identity, tenant, refused):
    other = await identity.new_tenant()
    of_user = (await tenant.new_key()).api_key
    of_lead = (
        await identity.api_keys.CreateApiKey(
            api_keys_pb2.CreateApiKeyRequest(name="lead's"), metadata=tenant.admin
        )
    ).api_key
    of_other = (await other.new_key()).api_key
    sees = {
        "user": (tenant.user, {of_user.id}),
        "lead": (tenant.admin, {of_user.id, of_lead.id}),
        "admin": (identity.admin, {of_user.id, of_lead.id, of_other.id}),
    }
    for metadata, expected in sees.values():
        listed = await identity.api_keys.ListApiKeys(
            api_keys_pb2.ListApiKeysRequest(page_size=1000), metadata=metadata
        )
        ids = [each.id for each in listed.api_keys]
        assert expected == {of_user.id, of_lead.id, of_other.id} & set(ids)
        for key in (of_user, of_lead, of_other):
            get = identity.api_keys.GetApiKey(
                api_keys_pb2.GetApiKeyRequest(api_key_id=key.id), metadata=metadata
            )
            if key.id in expected:
                assert (await get).api_key.id == key.id
                continue
            assert (await refused(get)).code == "NOT_FOUND"
            revoke = identity.api_keys.RevokeApiKey(
                api_keys_pb2.RevokeApiKeyRequest(api_key_id=key.id), metadata=metadata
            )
            assert (await refused(revoke)).code == "NOT_FOUND"


async def test_an_org_user_cannot_ask_for_anothers_keys(identity, tenant, refused):
    answer = await refused(
        identity.api_keys.ListApiKeys(
            api_keys_pb2.ListApiKeysRequest(user_id=tenant.admin_user.id), metadata=tenant.user
        )
    )
    assert answer.code == "NOT_FOUND"


async def test_keys_are_paged_newest_first(identity):
    crowd = await identity.new_tenant()
    made = [(await crowd.new_key()).api_key.id for _ in range(5)]
    seen, token = [], ""
    while True:
        page = await identity.api_keys.ListApiKeys(
            api_keys_pb2.ListApiKeysRequest(page_size=2, page_token=token), metadata=crowd.user
        )
        seen += [each.id for each in page.api_keys]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]


async def test_every_change_has_its_entry_in_the_log_of_its_organisation(identity):
    fresh = await identity.new_tenant()
    soon = Timestamp()
    soon.FromDatetime(datetime.now(UTC) + timedelta(days=1))
    key = await fresh.new_key(expire_time=soon)
    await identity.api_keys.RevokeApiKey(
        api_keys_pb2.RevokeApiKeyRequest(api_key_id=key.api_key.id), metadata=fresh.admin
    )
    log = await entries(identity, fresh.admin)
    assert [entry.action for entry in log][::-1] == [
        "organization.create",
        "user.invite",
        "user.activate",
        "user.invite",
        "user.activate",
        "api_key.create",
        "api_key.revoke",
    ]
    assert [entry.sequence for entry in log] == list(range(7, 0, -1))
    revoke, create, activate = log[0], log[1], log[2]
    assert revoke.actor_user_id == fresh.admin_user.id
    assert revoke.actor_address == "192.0.2.1"
    assert revoke.request_id.startswith("req-")
    assert dict(revoke.before)["revoked"] is False
    assert dict(revoke.after)["revoked"] is True
    assert create.actor_user_id == fresh.user_user.id
    assert create.resource_id == key.api_key.id
    assert activate.actor_user_id == fresh.user_user.id
    assert log[-1].actor_user_id == identity.admin_id
    assert {entry.organization_id for entry in log} == {fresh.id}


async def test_the_log_is_filtered_and_paged(identity, tenant):
    key = await tenant.new_key()
    found = await entries(identity, tenant.admin, resource_id=key.api_key.id)
    assert [entry.action for entry in found] == ["api_key.create"]
    created = await entries(identity, identity.admin, action="organization.create")
    assert {entry.action for entry in created} == {"organization.create"}
    seen, token = [], ""
    while True:
        page = await identity.audit.ListAuditEntries(
            audit_pb2.ListAuditEntriesRequest(page_size=3, page_token=token),
            metadata=tenant.admin,
        )
        seen += [entry.sequence for entry in page.entries]
        token = page.next_page_token
        if not token:
            break
    assert seen == list(range(len(seen), 0, -1))


async def test_the_systems_own_log_is_the_system_admins_alone(identity, tenant):
    log = await entries(identity, identity.admin, resource_id=identity.admin_id)
    assert [(entry.action, entry.organization_id) for entry in log] == [("user.create", "")]
    assert not await entries(identity, tenant.admin, resource_id=identity.admin_id)
