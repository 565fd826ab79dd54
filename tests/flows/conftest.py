"""The whole system, running: Envoy, the three services and their servers, with fresh data."""

from collections.abc import AsyncIterator, Iterator

import ias_oracle
import pytest
from ias_flow import Flow
from ias_test_servers import TestServers
from ias_testing import free_address

from ias_dev import up
from ias_dev.report import Report


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """Started once for all flows; each makes organisations of its own in it.

    Its servers are its own: its consumers would take what other tests put into a shared queue, and
    flows stop servers.
    """
    servers = TestServers.start()
    try:
        found = up.up(servers.settings, Report())
        config = tmp_path_factory.mktemp("ias-admin") / "config.yaml"
        yield Flow(servers.settings, found.keys, config)
    finally:
        servers.stop()


@pytest.fixture
async def oracle() -> AsyncIterator[ias_oracle.Oracle]:
    """An OpenAI-compatible server of a test's own, on a free port."""
    port = int(free_address().rpartition(":")[2])
    served, runner = await ias_oracle.start(port)
    yield served
    await runner.cleanup()
