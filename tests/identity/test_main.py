"""The command line: migrate, then bootstrap as often as one likes; and what reflection lists."""

import asyncio
import os
import sys

import asyncpg
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from identity_support import PASSWORD, fresh_database, make_settings


async def run(settings, *arguments, stdin=""):
    """Exit code and output of ias-identity."""
    environment = dict(os.environ)
    for name in ("database_url", "redis_url", "mesh_secret", "key_pepper", "caller_private_key"):
        environment[f"IAS_{name.upper()}"] = getattr(settings, name).get_secret_value()
    environment["IAS_CALLER_PUBLIC_KEYS"] = settings.caller_public_keys
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ias_identity",
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate(stdin.encode())
    return process.returncode, out.decode()


async def test_bootstrap_creates_one_system_admin_and_a_second_time_changes_nothing():
    async with fresh_database() as url:
        settings = make_settings(url, os.environ["IAS_TEST_REDIS_URL"])
        for _ in range(2):
            assert (await run(settings, "migrate"))[0] == 0
        command = ("bootstrap", "create-super-admin", "--email", "root@x.test", "--password-stdin")
        code, out = await run(settings, *command, stdin="too short\n")
        assert (code, "12 characters" in out) == (1, True)
        code, out = await run(settings, *command, stdin=PASSWORD + "\n")
        assert (code, "Created" in out) == (0, True), out
        connection = await asyncpg.connect(url)
        before = await connection.fetch("select * from identity.users")
        code, out = await run(settings, *command, stdin="another password, longer\n")
        assert (code, "exists already" in out) == (0, True), out
        assert await connection.fetch("select * from identity.users") == before
        log = await connection.fetch("select action, organization_id::text from audit.entries")
        assert [tuple(row) for row in log] == [
            ("user.create", "00000000-0000-0000-0000-000000000000")
        ]
        await connection.close()


async def test_reflection_lists_and_describes_every_edge_service(identity):
    stub = reflection_pb2_grpc.ServerReflectionStub(identity.channel)
    edge = [
        *(f"ias.identity.v1.{n}Service" for n in ("Organization", "User", "Session", "ApiKey")),
        "ias.identity.v1.AuditService",
        "ias.metering.v1.BudgetService",
        "ias.metering.v1.UsageService",
        "ias.inference.v1.OpenAIService",
        "ias.inference.v1.ChatService",
        "ias.inference.v1.ModelService",
    ]
    Request = reflection_pb2.ServerReflectionRequest
    asked = [Request(list_services="")] + [Request(file_containing_symbol=n) for n in edge]
    answers = [answer async for answer in stub.ServerReflectionInfo(iter(asked))]
    listed = {service.name for service in answers[0].list_services_response.service}
    assert set(edge) <= listed
    assert "ias.metering.v1.QuotaService" not in listed
    assert all(answer.HasField("file_descriptor_response") for answer in answers[1:])
