"""The conformance clients, and how they are run."""

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_BUILT = ROOT / ".cache" / "polyglot"
PROGRAMS = {
    "node": ["node", str(ROOT / "tests" / "polyglot" / "node" / "client.mjs")],
    "go": [str(_BUILT / "client-go")],
    "cpp": [str(_BUILT / "client-cpp")],
}


@dataclass(frozen=True)
class Client:
    """A client in one language, told whom to call with which key."""

    program: list[str]
    address: str
    model: str
    key: str

    async def run(
        self, command: str, text: str, *, key: str = "", model: str = "", deadline_ms: int = 0
    ) -> dict[str, Any]:
        """What one call gave; README.md in this folder has the fields."""
        environment = {**os.environ, "IAS_API_KEY": key or self.key}
        if deadline_ms:
            environment["IAS_DEADLINE_MS"] = str(deadline_ms)
        process = await asyncio.create_subprocess_exec(
            *self.program, command, self.address, model or self.model, text,
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err.decode()
        found: dict[str, Any] = json.loads(out)
        return found


@pytest.fixture(params=PROGRAMS)
def client(request: pytest.FixtureRequest, stack: Any) -> Client:
    """The client of each language."""
    return Client(PROGRAMS[request.param], stack.grpc, stack.model, stack.api_key)
