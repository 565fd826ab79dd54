"""A served gateway with fakes for leases and spool."""

from collections.abc import AsyncIterator

import pytest
from inference_support import Gateway, a_gateway


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """Unlimited, with mock-gpt registered."""
    async with a_gateway() as opened:
        yield opened
