"""docs/clients.md works as pasted."""

import asyncio
import os
import re

import pytest
from ias_flow import ROOT

from ias_dev import dotenv

pytestmark = pytest.mark.slow
_SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.M | re.S)
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)
EXAMPLES = {
    title: blocks
    for title, text in _SECTION.findall((ROOT / "docs" / "clients.md").read_text())
    if (blocks := _BLOCK.findall(text))
}


def test_every_kind_of_client_has_an_example():
    assert set(EXAMPLES) >= {"Python, with grpcio", "Python, with the SDK", "Node", "Go", "C++",
                             "buf curl", "LangChain"}  # fmt: skip


@pytest.mark.parametrize("title", EXAMPLES)
async def test_an_example_works_as_pasted(stack, title):
    environment = {**os.environ, **dotenv.read(stack.settings.dotenv)}
    before = stack.mock_counters()
    for block in EXAMPLES[title]:
        process = await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", block, cwd=ROOT, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 110)
        assert process.returncode == 0, err.decode()
        assert len(re.findall(r"[a-z]+", out.decode())) >= 8, "it prints what the model said"
    assert stack.mock_counters()[1] > before[1], "the model said it"
