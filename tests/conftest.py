"""Real servers for the tests: one private PostgreSQL, Redis and RabbitMQ per test session.

They start when a selected test asks for them (by the fixtures below, or by a fixture that reads
IAS_TEST_DATABASE_URL, IAS_TEST_REDIS_URL or IAS_TEST_AMQP_URL), under `.ias-test/`, and are gone
afterwards. Where those variables are set already, those servers are used and none is started.
"""

import inspect
import os

import pytest
from ias_test_servers import VARIABLES, TestServers


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
