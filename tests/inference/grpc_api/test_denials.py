"""Every RPC, from its descriptor, refuses whoever may not call it."""

from typing import Any

import grpc
import ias_testing
import pytest
from google.protobuf.message_factory import GetMessageClass
from ias.access.v1 import access_pb2
from ias.inference.v1 import (
    catalog_pb2,
    chat_pb2,
    completions_pb2,
    embeddings_pb2,
    engine_pb2,
    models_pb2,
    openai_pb2,
)
from inference_support import Gateway, a_caller, an_admin

from ias_runtime.caller import Caller, CallerKind, Role
from ias_runtime.caller_token import HEADER, CallerSigner, MeshSigner

FILES = (openai_pb2, chat_pb2, completions_pb2, embeddings_pb2, catalog_pb2, models_pb2, engine_pb2)
METHODS = {
    method.full_name: method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
ANYONE: dict[str, Caller] = {
    "anonymous": Caller(CallerKind.ANONYMOUS),
    "org user, key": a_caller(),
    "org admin, key": a_caller(role=Role.ORG_ADMIN),
    "system admin, key": a_caller(role=Role.SYSTEM_ADMIN),
    "org user, session": a_caller(kind=CallerKind.SESSION),
    "org admin, session": a_caller(kind=CallerKind.SESSION, role=Role.ORG_ADMIN),
    "system admin, session": an_admin(),
    "nobody, key": a_caller(role=Role.NONE),
}
INFERENCE = {"org user, key", "org admin, key"}
REGISTRY = {"system admin, session"}


async def code_of(gateway: Gateway, name: str, metadata: Any) -> grpc.StatusCode:
    method = METHODS[name]
    path = f"/{method.containing_service.full_name}/{method.name}"
    make = gateway.channel.unary_stream if method.server_streaming else gateway.channel.unary_unary
    call: Any = make(path)(
        GetMessageClass(method.input_type)().SerializeToString(), metadata=metadata
    )
    try:
        if method.server_streaming:
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def allowed(name: str) -> set[str]:
    rule = METHODS[name].GetOptions().Extensions[access_pb2.access]
    if rule.service:
        return set()  # no person, and no program of theirs
    return {
        access_pb2.PERMISSION_INFERENCE_CALL: INFERENCE,
        access_pb2.PERMISSION_MODELS_WRITE: REGISTRY,
    }[rule.permission]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("who", ANYONE)
async def test_only_who_may_gets_in(gateway: Gateway, name: str, who: str) -> None:
    code = await code_of(gateway, name, ias_testing.signed(ANYONE[who]))
    refused = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
    assert (code not in refused) == (who in allowed(name))


@pytest.mark.parametrize("name", METHODS)
async def test_nobody_gets_in_without_a_valid_caller(gateway: Gateway, name: str) -> None:
    forged = CallerSigner(ias_testing.key_pair()[0]).sign(a_caller())
    mesh = MeshSigner(ias_testing.MESH_SECRET, "metering", "inference").metadata()
    for metadata in ((), ((HEADER, "nonsense"),), ((HEADER, forged),)):
        assert await code_of(gateway, name, metadata) is grpc.StatusCode.UNAUTHENTICATED
    # A service of IAS is no person: it may call what is for services, and that alone.
    expected = grpc.StatusCode.PERMISSION_DENIED
    if METHODS[name].GetOptions().Extensions[access_pb2.access].service:
        expected = grpc.StatusCode.OK
    assert await code_of(gateway, name, mesh) is expected
