"""The database goes away and comes back: refused with the time to wait, then served again."""

import uuid
from urllib.parse import urlsplit

import grpc
import pytest
from cable import Cable
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from ias.metering.v1 import leases_pb2, leases_pb2_grpc
from ias_testing import MESH_SECRET, PUBLIC_KEY, free_address
from metering_callers import inference

from ias_metering import wiring
from ias_metering.settings import Settings
from ias_runtime import server
from ias_runtime.caller_token import CallerVerifier


async def test_without_the_database_leases_are_unavailable_and_with_it_they_are_back(
    metering_url: str,
) -> None:
    there = urlsplit(metering_url)
    async with Cable(there.hostname or "127.0.0.1", there.port or 5432) as cable:
        url = metering_url.replace(f"{there.hostname}:{there.port}", f"127.0.0.1:{cable.port}")
        settings = Settings(
            database_url=url,
            amqp_url="amqp://nobody:nothing@127.0.0.1:1/",
            caller_public_keys=PUBLIC_KEY,
            mesh_secret=MESH_SECRET,
            metering_listen=free_address(),
        )
        async with wiring.opening(settings) as service:
            running, _ = server.build(
                settings, service, CallerVerifier(settings.public_keys(), MESH_SECRET, service.name)
            )
            await running.start()
            async with grpc.aio.insecure_channel(service.listen) as channel:
                stub = leases_pb2_grpc.QuotaServiceStub(channel)
                request = leases_pb2.AcquireLeaseRequest(
                    subject=leases_pb2.LeaseSubject(
                        organization_id=str(uuid.uuid4()),
                        user_id=str(uuid.uuid4()),
                        api_key_id=str(uuid.uuid4()),
                    ),
                    holder="h",
                    need_tokens=1,
                    want_tokens=1,
                )
                await stub.AcquireLease(request, metadata=inference())
                await cable.cut()
                for _ in range(3):
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await stub.AcquireLease(request, metadata=inference())
                    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
                    details = rpc_status.from_call(caught.value).details
                    assert any(one.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for one in details)
                await cable.mend()
                answer = await stub.AcquireLease(request, metadata=inference())
                assert answer.lease.granted_tokens == 1
            await running.stop(0)
