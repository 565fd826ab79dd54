"""Real servers for the tests: one private PostgreSQL, Redis and RabbitMQ per test session.

They start when a selected test asks for them (by the fixtures below, or by a fixture that reads
IAS_TEST_DATABASE_URL, IAS_TEST_REDIS_URL or IAS_TEST_AMQP_URL), under `.ias-test/`, and are gone
afterwards. Where those variables are set already, those servers are used and none is started.
"""

import inspect
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from ias_test_servers import VARIABLES, TestServers

if TYPE_CHECKING:
    from ias_flow import Flow


def pytest_collection_finish(session: pytest.Session) -> None:
    """Starts the servers once it is known what will run."""
    if session.config.option.collectonly or all(name in os.environ for name in VARIABLES):
        return
    if any(_needs_servers(item) for item in session.items):
        servers = TestServers.start()
        session.config.add_cleanup(servers.stop)
        for name, url in servers.urls().items():
            os.environ.setdefault(name, url)


@pytest.fixture(scope="session")
def database_url() -> str:
    """A superuser's URL; make a database of your own from there."""
    return os.environ["IAS_TEST_DATABASE_URL"]


@pytest.fixture(scope="session")
def redis_url() -> str:
    """Redis, shared by the whole session: use key names of your own."""
    return os.environ["IAS_TEST_REDIS_URL"]


@pytest.fixture(scope="session")
def amqp_url() -> str:
    """RabbitMQ, shared by the whole session."""
    return os.environ["IAS_TEST_AMQP_URL"]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Flow]":
    """The whole system: Envoy, the three services and their servers, with fresh data.

    Started once for all tests; each makes organisations of its own in it. Its servers are its own: its consumers would take what other tests put into a shared queue, and
    flows stop servers.
    """
    from ias_flow import Flow  # here, since few sessions need it and its imports take a second

    from ias_dev import up
    from ias_dev.report import Report

    servers = TestServers.start()
    try:
        found = up.up(servers.settings, Report())
        config = tmp_path_factory.mktemp("ias-admin") / "config.yaml"
        yield Flow(servers.settings, found.keys, config)
    finally:
        servers.stop()


def _needs_servers(item: pytest.Item) -> bool:
    definitions = getattr(item, "_fixtureinfo", None)
    if definitions is None:
        return False
    return any(
        name in _source(fixture.func)
        for found in definitions.name2fixturedefs.values()
        for fixture in found
        for name in VARIABLES
    )


def _source(function: object) -> str:
    try:
        return inspect.getsource(function)  # type: ignore[arg-type]
    except (OSError, TypeError):
        return ""
