"""The access rules of the contracts, and the roles' grants, against the table of permissions."""

import itertools

import pytest
from ias.access.v1 import access_pb2

from ias_runtime import access
from ias_runtime.caller import Caller, CallerKind, Role
from ias_runtime.errors import IasError, PermissionDenied, Unauthenticated

SESSION, KEY = CallerKind.SESSION, CallerKind.API_KEY
ANYONE = [Caller(kind=k, role=r) for k, r in itertools.product(CallerKind, Role)]


def passes(rule: access_pb2.Access, caller: Caller | None) -> bool:
    try:
        access.check_of(rule)(caller)
    except IasError:
        return False
    return True


def permission(value: int) -> access_pb2.Access:
    return access_pb2.Access(permission=value)


def test_nobody_passes_an_rpc_without_a_rule():
    for rule in (None, access_pb2.Access()):
        for caller in ANYONE:
            with pytest.raises(PermissionDenied):
                access.check_of(rule)(caller)


def test_nobody_passes_any_rule_without_a_signed_caller():
    for rule in (
        access_pb2.Access(public=True),
        access_pb2.Access(authenticated=True),
        access_pb2.Access(service=True),
        permission(access_pb2.PERMISSION_USAGE_READ),
    ):
        with pytest.raises(Unauthenticated):
            access.check_of(rule)(None)


def test_only_a_service_passes_a_service_rule():
    assert {c.kind for c in ANYONE if passes(access_pb2.Access(service=True), c)} == {
        CallerKind.SERVICE
    }


def test_inference_takes_keys_alone_and_everything_else_sessions_alone():
    for value in access_pb2.Permission.values():
        kinds = {c.kind for c in ANYONE if passes(permission(value), c)}
        if value == access_pb2.PERMISSION_UNSPECIFIED:
            assert kinds == set()
        elif value == access_pb2.PERMISSION_INFERENCE_CALL:
            assert kinds == {KEY}
        else:
            assert kinds == {SESSION}


def test_a_system_admin_is_no_developer():
    granted = access.grants(Role.SYSTEM_ADMIN)
    assert access_pb2.PERMISSION_API_KEYS_CREATE not in granted
    assert access_pb2.PERMISSION_API_KEYS_OWN not in granted
    assert access_pb2.PERMISSION_INFERENCE_CALL not in granted


def test_an_org_user_changes_nothing_but_their_own_keys():
    names = {access_pb2.Permission.Name(p) for p in access.grants(Role.ORG_USER)}
    assert names == {
        "PERMISSION_ORGANIZATIONS_READ",
        "PERMISSION_API_KEYS_CREATE",
        "PERMISSION_API_KEYS_OWN",
        "PERMISSION_USAGE_READ",
        "PERMISSION_INFERENCE_CALL",
    }


def test_no_role_grants_nothing():
    assert access.grants(Role.NONE) == frozenset()


def test_one_of_several_permissions_suffices():
    rule = access_pb2.Access(
        any_permission=access_pb2.AnyPermission(
            permissions=[
                access_pb2.PERMISSION_API_KEYS_OWN,
                access_pb2.PERMISSION_API_KEYS_MANAGE,
            ]
        )
    )
    assert all(passes(rule, Caller(kind=SESSION, role=r)) for r in Role if r is not Role.NONE)
    assert not passes(rule, Caller(kind=KEY, role=Role.ORG_ADMIN))
