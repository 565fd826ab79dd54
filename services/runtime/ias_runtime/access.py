"""The rule of every RPC, read from its method option `ias.access.v1.access`."""

from collections.abc import Callable

from google.protobuf.descriptor import MethodDescriptor
from ias.access.v1 import access_pb2

from ias_runtime.caller import Caller, CallerKind, Role
from ias_runtime.errors import PermissionDenied, Unauthenticated

Check = Callable[[Caller | None], None]
"""Raises Unauthenticated or PermissionDenied when the caller may not."""


def rule_of(method: MethodDescriptor) -> access_pb2.Access | None:
    """The rule of an RPC of ours; None for one that states none."""
    options = method.GetOptions()
    if not options.HasExtension(access_pb2.access):
        return None
    rule: access_pb2.Access = options.Extensions[access_pb2.access]
    return rule


def grants(role: Role) -> frozenset[int]:
    """The permissions (values of ias.access.v1.Permission) that a role grants."""
    return _GRANTS[role]


def check_of(rule: access_pb2.Access | None) -> Check:
    """The check that a rule asks for, made once per method so that a call pays little."""
    kind = rule.WhichOneof("rule") if rule is not None else None
    if rule is None or kind is None:
        return _refuse_everyone
    if kind == "public":
        return _require_front_door
    if kind == "authenticated":
        return _require_credential
    if kind == "service":
        return _require_service
    if kind == "any_permission":
        return _require_permission(frozenset(rule.any_permission.permissions))
    return _require_permission(frozenset({rule.permission}))


def _refuse_everyone(_: Caller | None) -> None:
    raise PermissionDenied("This RPC states no access rule.")


def _require_front_door(caller: Caller | None) -> None:
    # Even a public RPC must come through Envoy, which signs an anonymous caller.
    if caller is None:
        raise Unauthenticated("No x-ias-caller; call IAS through its front door.")


def _require_credential(caller: Caller | None) -> None:
    _require_front_door(caller)
    if caller is None or caller.kind is CallerKind.ANONYMOUS:
        raise Unauthenticated("This needs a session or an API key.")


def _require_service(caller: Caller | None) -> None:
    _require_front_door(caller)
    if caller is None or caller.kind is not CallerKind.SERVICE:
        raise PermissionDenied("Only a service of IAS may call this.")


def _require_permission(sufficient: frozenset[int]) -> Check:
    names = " or ".join(_permission_name(value) for value in sorted(sufficient))
    wants_key = access_pb2.PERMISSION_INFERENCE_CALL in sufficient
    wanted = CallerKind.API_KEY if wants_key else CallerKind.SESSION
    hint = (
        "Use an API key for inference, not a session."
        if wants_key
        else "Use a session (ias-admin login) for this, not an API key."
    )

    def check(caller: Caller | None) -> None:
        _require_credential(caller)
        assert caller is not None
        if caller.kind is not wanted:
            raise PermissionDenied(
                hint, reason="WRONG_CREDENTIAL_KIND", metadata={"expected": wanted.value}
            )
        if not sufficient & _GRANTS[caller.role]:
            raise PermissionDenied(f"This needs {names}.", metadata={"permission": names})

    return check


def _permission_name(value: int) -> str:
    return str(access_pb2.Permission.DESCRIPTOR.values_by_number[value].name)


def _grants_of(role: Role) -> frozenset[int]:
    if role is Role.NONE:
        return frozenset()
    value = access_pb2.Role.DESCRIPTOR.values_by_name[f"ROLE_{role.value.upper()}"]
    return frozenset(value.GetOptions().Extensions[access_pb2.grants].permissions)


_GRANTS = {role: _grants_of(role) for role in Role}
