"""The client libraries' programs, and how they are run."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from ias_flow import ROOT

HERE = Path(__file__).resolve().parent
PYTHON = str(ROOT / ".cache" / "clients" / "bin" / "python")
PROGRAMS = {
    "openai-node": ["node", str(HERE / "node" / "openai.mjs")],
    "vercel": ["node", str(HERE / "node" / "vercel.mjs")],
    "langchain": [PYTHON, str(HERE / "python" / "langchain_client.py")],
    "llama-index": [PYTHON, str(HERE / "python" / "llama_index_client.py")],
}
Report = dict[str, Any]


@pytest.fixture(scope="session")
async def report_of(stack: Any) -> Callable[[str], Awaitable[Report]]:
    """What a program reports; each is run once."""
    team = stack.new_team()
    stack.admin("budget", "set", "--org", team.org, "--tokens", "1")
    environment = {
        **os.environ,
        "IAS_API_KEY": stack.api_key,
        "IAS_POOR_API_KEY": team.key,
        # Nothing of theirs may try to reach their makers.
        "LANGSMITH_TRACING": "false",
        "AI_SDK_LOG_WARNINGS": "false",
    }
    reports: dict[str, Report] = {}

    async def run(name: str) -> Report:
        if name not in reports:
            process = await asyncio.create_subprocess_exec(
                *PROGRAMS[name], f"{stack.url}/v1", stack.model,
                env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = await asyncio.wait_for(process.communicate(), 100)
            assert process.returncode == 0, err.decode()
            reports[name] = json.loads(out)
        return reports[name]

    return run
