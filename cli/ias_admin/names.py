"""Names in place of ids: what the user wrote becomes the thing meant, and ids become names."""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeVar

import grpc
from ias_sdk.ias.identity import v1 as identity

from ias_admin.client import Stubs, pages
from ias_admin.errors import NOT_FOUND, CliError, wrong_usage

_PAGE = 1000

Found = TypeVar("Found", identity.Organization, identity.User, identity.ApiKey)


def organization(stubs: Stubs, reference: str) -> identity.Organization:
    """By name or id."""
    answer = stubs.organizations.get_organization(
        identity.GetOrganizationRequest(organization_id=reference)
    )
    return _present(answer.organization)


def organization_id(stubs: Stubs, reference: str | None) -> str:
    """Empty, which IAS takes for the caller's own, when none was named."""
    return organization(stubs, reference).id if reference else ""


def user(stubs: Stubs, reference: str) -> identity.User:
    """By e-mail address or id. An Org User, who may see no others, finds themselves."""
    try:
        return _present(stubs.users.get_user(identity.GetUserRequest(user_id=reference)).user)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
            raise
        own = whoami(stubs)
        if reference.casefold() not in (own.email.casefold(), own.id):
            raise
        return own


def whoami(stubs: Stubs) -> identity.User:
    """The caller."""
    return _present(stubs.sessions.whoami().user)


def api_key(stubs: Stubs, reference: str) -> identity.ApiKey:
    """By id, name, displayed form (`ias_AbCd…wxyz`), the beginning of its id, or the whole key.

    Keys in force go before those that ended. Raises CliError when none or several are meant.
    """
    if _is_uuid(reference):
        answer = stubs.api_keys.get_api_key(identity.GetApiKeyRequest(api_key_id=reference))
        return _present(answer.api_key)
    request = identity.ListApiKeysRequest(page_size=_PAGE)
    candidates = [
        key
        for key in pages(stubs.api_keys.list_api_keys, request, "api_keys")
        if _means(reference, key)
    ]
    meant: list[identity.ApiKey] = [
        key for key in candidates if key_status(key) == "active"
    ] or candidates
    if len(meant) == 1:
        return meant[0]
    told = _masked(reference)
    if not meant:
        raise CliError(
            f"No API key {told!r}.",
            "`ias-admin key list` shows those that there are.",
            exit_code=NOT_FOUND,
        )
    listed = ", ".join(f"{key.id} ({key.name}, {key.display})" for key in meant[:10])
    more = f", and {len(meant) - 10} more" if len(meant) > 10 else ""
    raise wrong_usage(
        f"{told!r} may be any of {len(meant)} API keys.", f"Name one by its id: {listed}{more}"
    )


def key_status(key: identity.ApiKey) -> str:
    """`active`, `expired` or `revoked`."""
    if key.revoke_time is not None:
        return "revoked"
    if key.expire_time is not None and key.expire_time <= datetime.now(UTC):
        return "expired"
    return "active"


def _means(reference: str, key: identity.ApiKey) -> bool:
    head, _, tail = key.display.partition("…")
    return (
        reference in (key.name, key.display)
        or (len(reference) >= 4 and key.id.startswith(reference.lower()))
        or (
            len(reference) == 56
            and bool(head and tail)
            and reference.startswith(head)
            and reference.endswith(tail)
        )
    )


def _masked(reference: str) -> str:
    """Never shows a whole key, which someone pastes to have it revoked."""
    whole = reference.startswith("ias_") and len(reference) > 20
    return f"{reference[:8]}…{reference[-4:]}" if whole else reference


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _present(thing: Found | None) -> Found:
    if thing is None:
        raise CliError("IAS answered without what was asked for.", "Is it of this version?")
    return thing


class Directory:
    """Ids to names, as far as the caller may list them. Pages are followed only until every
    wanted id is found; what can't be found has no name."""

    def __init__(self, stubs: Stubs) -> None:
        self._stubs = stubs

    def organizations(self, ids: Iterable[str]) -> dict[str, str]:
        """Names of organisations."""
        request = identity.ListOrganizationsRequest(page_size=_PAGE)
        listed = pages(self._stubs.organizations.list_organizations, request, "organizations")
        return _names(ids, ((one.id, one.name) for one in listed))

    def users(self, ids: Iterable[str], organization: str = "") -> dict[str, str]:
        """E-mail addresses of users."""
        wanted = set(ids) - {""}
        request = identity.ListUsersRequest(organization_id=organization, page_size=_PAGE)
        listed = pages(self._stubs.users.list_users, request, "users")
        found = _names(wanted, ((one.id, one.email) for one in listed))
        if wanted - found.keys():
            own = whoami(self._stubs)
            found |= {own.id: own.email} if own.id in wanted else {}
        return found

    def api_keys(self, ids: Iterable[str], organization: str = "") -> dict[str, str]:
        """What keys are called by their owners."""
        request = identity.ListApiKeysRequest(organization_id=organization, page_size=_PAGE)
        listed = pages(self._stubs.api_keys.list_api_keys, request, "api_keys")
        return _names(ids, ((one.id, one.name) for one in listed))


def _names(ids: Iterable[str], listed: Iterable[tuple[str, str]]) -> dict[str, str]:
    wanted = set(ids) - {""}
    found: dict[str, str] = {}
    if not wanted:
        return found
    try:
        for identifier, name in listed:
            if identifier in wanted:
                found[identifier] = name
                if len(found) == len(wanted):
                    break
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
            raise
    return found
