"""A running system, as the flows use it: clients, teams, faults, and what was written."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import httpx2 as httpx
import openai
from ias.access.v1 import access_pb2
from ias.identity.v1 import (
    api_keys_pb2,
    api_keys_pb2_grpc,
    organizations_pb2,
    organizations_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
    users_pb2,
    users_pb2_grpc,
)
from ias.metering.v1 import budgets_pb2, budgets_pb2_grpc
from ias_testing import free_address
from redis import Redis

from ias_dev import dotenv, envoy, postgres, rabbitmq, redis, services
from ias_dev.keys import Keys
from ias_dev.settings import HOST, SERVICES, Settings
from ias_dev.supervisor import Supervisor

ROOT = Path(__file__).resolve().parents[2]
_NOT_OF_CALLERS = ("QuotaService", "EngineService", "SessionService", "Authorization/Check")
"""Services whose calls don't come from the front door, or need no key."""


@dataclass(frozen=True)
class Team:
    """An organisation of a test's own, with one Org Admin and one key."""

    org: str
    org_id: str
    email: str
    password: str
    invitation: str
    key: str
    key_id: str


@dataclass(frozen=True)
class Adapter:
    """An inference process beside the stack's own."""

    address: str
    metrics: str

    def calls(self) -> float:
        """Inference calls that it has handled."""
        return inference_calls(httpx.get(f"http://{self.metrics}/metrics").text)


def inference_calls(metrics: str) -> float:
    """Calls of a process that ask for inference, from its metrics."""
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in metrics.splitlines()
        if line.startswith("ias_grpc_calls_total")
        and ("OpenAIService" in line or "ChatService" in line)
    )


class Flow:
    """One running stack."""

    def __init__(self, settings: Settings, keys: Keys, config: Path) -> None:
        self.settings, self._keys = settings, keys
        self.supervisor = Supervisor(settings)
        self.env = dotenv.read(settings.dotenv)
        self.url, self.grpc = self.env["IAS_URL"], self.env["IAS_GRPC"]
        self.host, self.port = HOST, settings.ports.envoy
        self.identity, self.metering, self.inference = (
            f"{HOST}:{settings.ports.service(name)}" for name in SERVICES
        )
        self.api_key, self.model = self.env["IAS_DEMO_API_KEY"], self.env["IAS_DEMO_MODEL"]
        self.bearer = {"authorization": f"Bearer {self.api_key}"}
        self.admin_password = self.env["IAS_ADMIN_PASSWORD"]
        self.buf = str(ROOT / "proto" / "node_modules" / ".bin" / "buf")
        self._config = config
        self._channel = grpc.insecure_channel(self.grpc)
        self._token = ("", 0.0)

    # Clients

    def openai(self, key: str | None = None) -> openai.AsyncOpenAI:
        """The official client; never retries, so that every failure is seen."""
        return openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key=key or self.api_key, max_retries=0, timeout=60
        )

    def admin(self, *arguments: str, code: int | None = 0) -> str:
        """Runs ias-admin as the System Admin; `code` is the expected exit code, None any but 0."""
        environment = {
            **os.environ,
            "IAS_GRPC": self.grpc,
            "IAS_CONFIG": str(self._config),
            "IAS_TOKEN": self.admin_token(),
        }
        command = [str(Path(sys.executable).parent / "ias-admin"), *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        expected = done.returncode == code if code is not None else done.returncode != 0
        assert expected, f"{command} ended with {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def admin_json(self, *arguments: str) -> Any:
        """The answer of a command as JSON."""
        return json.loads(self.admin("-o", "json", *arguments))

    def admin_token(self) -> str:
        """An access token of the System Admin's."""
        token, until = self._token
        if time.monotonic() > until:
            login = sessions_pb2.LoginRequest(
                email=self.env["IAS_ADMIN_EMAIL"], password=self.admin_password
            )
            answer = sessions_pb2_grpc.SessionServiceStub(self._channel).Login(login, timeout=15)
            token = answer.tokens.access_token
            self._token = (token, time.monotonic() + 1800)
        return token

    def _as(self, token: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {token}"),)

    def new_team(self) -> Team:
        """A fresh organisation without a budget, with an Org Admin and a key."""
        admin = self._as(self.admin_token())
        name = f"team-{uuid.uuid4().hex[:12]}"
        organization = (
            organizations_pb2_grpc.OrganizationServiceStub(self._channel)
            .CreateOrganization(
                organizations_pb2.CreateOrganizationRequest(name=name), metadata=admin
            )
            .organization
        )
        email, password = f"{name}@example.org", f"correct horse {uuid.uuid4().hex}"
        invited = users_pb2_grpc.UserServiceStub(self._channel).InviteUser(
            users_pb2.InviteUserRequest(
                organization_id=organization.id, email=email, role=access_pb2.ROLE_ORG_ADMIN
            ),
            metadata=admin,
        )
        accepted = sessions_pb2_grpc.SessionServiceStub(self._channel).AcceptInvite(
            sessions_pb2.AcceptInviteRequest(
                invitation_token=invited.invitation_token, password=password
            )
        )
        created = api_keys_pb2_grpc.ApiKeyServiceStub(self._channel).CreateApiKey(
            api_keys_pb2.CreateApiKeyRequest(name="flow"),
            metadata=self._as(accepted.tokens.access_token),
        )
        return Team(
            org=name,
            org_id=organization.id,
            email=email,
            password=password,
            invitation=invited.invitation_token,
            key=created.secret,
            key_id=created.api_key.id,
        )

    # Waiting

    async def becomes(self, check: Callable[[], Awaitable[bool]], *, seconds: float) -> None:
        """Returns once `check` holds; fails after `seconds`."""
        deadline = time.monotonic() + seconds
        while not await check():
            assert time.monotonic() < deadline, f"not within {seconds} s"
            await asyncio.sleep(0.05)

    async def eventually(
        self, call: Callable[[], Awaitable[Any]], until_not: type[Exception], *, seconds: float
    ) -> None:
        """Calls until it no longer raises `until_not`."""

        async def passes() -> bool:
            with contextlib.suppress(until_not):
                await call()
                return True
            return False

        await self.becomes(passes, seconds=seconds)

    async def usage_becomes(
        self, team: Team, expected: tuple[int, int, int], *, seconds: float
    ) -> None:
        """Waits until ias-admin shows exactly so many requests, prompt and completion tokens.

        A service that a test has just killed may still be away: then it is asked again.
        """
        seen: Any = None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                rows = await asyncio.to_thread(self.admin_json, "usage", "--org", team.org)
            except AssertionError as error:
                if "can't be reached" not in str(error):
                    raise
                seen = "not to be had, since metering can't be reached"
                await asyncio.sleep(0.05)
                continue
            seen = tuple(
                sum(int(row[name]) for row in rows)
                for name in ("requests", "prompt_tokens", "completion_tokens")
            )
            if seen == tuple(expected):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"usage is {seen}, expected {expected} within {seconds} s")

    def budget(self, team: Team) -> budgets_pb2.Budget:
        """The organisation's budget and what is spent of it."""
        scope = budgets_pb2.BudgetScope(organization_id=team.org_id)
        return (
            budgets_pb2_grpc.BudgetServiceStub(self._channel)
            .GetBudget(
                budgets_pb2.GetBudgetRequest(scope=scope),
                metadata=self._as(self.admin_token()),
                timeout=15,
            )
            .budget
        )

    async def at_rest(self, team: Team) -> None:
        """Waits until no token is leased any more, and checks the limits (invariant B)."""

        async def nothing_leased() -> bool:
            return self.budget(team).leased_tokens == 0

        # A killed process's lease comes back after its expiry and the grace period.
        await self.becomes(nothing_leased, seconds=110)
        assert await self.overspent() == []

    async def spent(self, team: Team) -> int:
        """What the organisation has spent in this period, once nothing is leased any more."""
        await self.at_rest(team)
        return self.budget(team).spent_tokens

    async def overspent(self) -> list[Any]:
        """Budgets in which spent + leased exceed the limit."""
        connection = await asyncpg.connect(self.env["IAS_DATABASE_URL"])
        try:
            return await connection.fetch(OVERSPENT)
        finally:
            await connection.close()

    # What the services count

    def _metrics(self, service: str) -> str:
        url = f"http://{HOST}:{self.settings.ports.metrics(service)}/metrics"
        return httpx.get(url).text

    def calls_handled(self) -> float:
        """Calls that arrived at any service through the front door, refused ones included."""
        total = 0.0
        for service in SERVICES:
            for line in self._metrics(service).splitlines():
                if line.startswith("ias_grpc_calls_total") and not any(
                    name in line for name in _NOT_OF_CALLERS
                ):
                    total += float(line.rsplit(" ", 1)[1])
        return total

    def inference_calls(self) -> float:
        """Inference calls that the stack's own inference process has handled."""
        return inference_calls(self._metrics("inference"))

    def is_healthy(self, backend_url: str) -> bool:
        """Whether inference sends requests to a backend of a model that has several."""
        (value,) = re.findall(
            rf'^ias_inference_backend_healthy{{backend="{re.escape(backend_url)}",.*}} (.+)$',
            self._metrics("inference"),
            re.M,
        )
        return float(value) == 1

    def _mock_metric(self, name: str) -> int:
        found = re.search(rf"^{name}(?:{{.*}})? ([\d.e+]+)$", self._metrics("inference"), re.M)
        return int(float(found[1])) if found else 0

    def mock_counters(self) -> tuple[int, int]:
        """Prompt and completion tokens that the mock engine has produced."""
        return (
            self._mock_metric("ias_mock_prompt_tokens_total"),
            self._mock_metric("ias_mock_completion_tokens_total"),
        )

    async def mock_idle(self, seconds: float = 10) -> None:
        """Waits until the mock engine runs nothing."""

        async def idle() -> bool:
            return self._mock_metric("ias_mock_running_requests") == 0

        await self.becomes(idle, seconds=seconds)

    # Faults

    async def kill(self, program: str) -> None:
        """kill -9, once it runs; supervisor starts it anew."""
        pid = 0  # as long as it doesn't run; to kill(2), 0 would be the tests' own process group

        async def runs() -> bool:
            nonlocal pid
            pid = self.supervisor.state(program).pid
            return pid > 0

        await self.becomes(runs, seconds=20)
        os.kill(pid, signal.SIGKILL)

    async def stop(self, program: str) -> None:
        """Stops a program for good."""
        await asyncio.to_thread(self.supervisor.stop, program)

    async def start(self, program: str) -> None:
        """Starts a stopped program and waits until it serves."""
        self.supervisor.run(program)
        await self.ready(program)

    async def ready(self, program: str) -> None:
        """Waits until a program serves."""
        waits = {
            "postgres": lambda: postgres.wait(self.settings, self._keys),
            "redis": lambda: redis.wait(self.settings, self._keys),
            "rabbitmq": lambda: rabbitmq.wait(self.settings, self._keys),
            "envoy": lambda: envoy.wait(self.settings),
        }
        wait = waits.get(program) or (lambda: services.wait(self.settings, program))
        await asyncio.to_thread(wait)

    # Further processes

    @contextlib.asynccontextmanager
    async def adapter(self, folder: Path) -> AsyncIterator["Adapter"]:
        """A second inference process, which serves models of the kind `vllm`, with the mock."""
        address, metrics = free_address(), free_address()
        environment = services.environment(self.settings, self._keys, "inference") | {
            "IAS_INFERENCE_LISTEN": address,
            "IAS_INFERENCE_METRICS_LISTEN": metrics,
            "IAS_INFERENCE_SPOOL": str(folder / "spool.db"),
            "IAS_INFERENCE_ENGINE": "mock",
        }
        command = [sys.executable, "-m", "ias_inference", "serve"]
        with (folder / "adapter.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=os.environ | environment, stdout=log, stderr=log
            )
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                await channel.channel_ready()
            yield Adapter(address, metrics)
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 20)

    # What lies about

    def everything_written(self) -> Iterator[tuple[str, bytes]]:
        """Every table, every Redis key, every log, spool and queue file, each with its place."""
        dump = subprocess.run(
            ["pg_dump", "--data-only", "--inserts", self.env["IAS_DATABASE_URL"]],
            capture_output=True, check=True,
        )  # fmt: skip
        yield "the database", dump.stdout
        assert b"organizations" in dump.stdout, "the dump holds the tables"
        yield "redis", self._redis_dump()
        for path in self.settings.folder.rglob("*"):
            part = path.relative_to(self.settings.folder).parts[0]
            of_interest = part in ("logs", "rabbitmq", "inference") and path.name != "run.sh"
            if of_interest and path.is_file():
                yield str(path), path.read_bytes()

    def _redis_dump(self) -> bytes:
        connection = Redis.from_url(self.env["IAS_REDIS_URL"])
        content = b""
        for key in connection.scan_iter(count=1000):
            content += key + b" " + (connection.dump(key) or b"") + b"\n"
        connection.close()
        return content


OVERSPENT = "select * from metering.budget_periods where spent + leased > limit_tokens"
