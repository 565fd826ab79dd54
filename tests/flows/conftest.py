"""What the flows need beside the whole system, which the fixture `stack` runs (tests/conftest.py)."""

from collections.abc import AsyncIterator

import ias_oracle
import pytest
from ias_testing import free_address


@pytest.fixture
async def oracle() -> AsyncIterator[ias_oracle.Oracle]:
    """An OpenAI-compatible server of a test's own, on a free port."""
    port = int(free_address().rpartition(":")[2])
    served, runner = await ias_oracle.start(port)
    yield served
    await runner.cleanup()
