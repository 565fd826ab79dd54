"""Callers of metering, as gRPC metadata, and what a failed call says."""

import uuid
from collections.abc import Awaitable

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from ias_testing import MESH_SECRET, signed

from ias_runtime.caller import Caller, CallerKind, Role
from ias_runtime.caller_token import MeshSigner

Metadata = tuple[tuple[str, str], ...]


def inference() -> Metadata:
    """Another service of IAS. Tokens are short-lived: make one when it is used."""
    return MeshSigner(MESH_SECRET, "inference", "metering").metadata()


def session(role: Role, organization_id: str = "") -> Metadata:
    """A person, logged in."""
    return signed(
        Caller(
            kind=CallerKind.SESSION,
            role=role,
            organization_id=organization_id,
            user_id=str(uuid.uuid4()),
        )
    )


def api_key(organization_id: str) -> Metadata:
    """A program of an Org Admin."""
    return signed(
        Caller(
            kind=CallerKind.API_KEY,
            role=Role.ORG_ADMIN,
            organization_id=organization_id,
            user_id=str(uuid.uuid4()),
            api_key_id=str(uuid.uuid4()),
        )
    )


async def failure(call: Awaitable[object]) -> tuple[grpc.StatusCode, error_details_pb2.ErrorInfo]:
    """The status code and the reason of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = rpc_status.from_call(caught.value)
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert info.domain == "ias"
    return caught.value.code(), info
