"""What a stack consists of, in the order in which it starts."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from ias_dev import envoy, postgres, rabbitmq, redis, services
from ias_dev.keys import Keys
from ias_dev.programs import Program
from ias_dev.settings import SERVICES, DevError, Settings


def servers(settings: Settings) -> list[Program]:
    """The private PostgreSQL, Redis and RabbitMQ, less those that others stand in for."""
    found: list[Program] = []
    if not settings.external_database_url:
        found.append(postgres.program(settings))
    if not settings.external_redis_url:
        found.append(redis.program(settings))
    if not settings.external_amqp_url:
        found += [rabbitmq.port_mapper(settings), rabbitmq.program(settings)]
    return found


def programs(settings: Settings, keys: Keys) -> list[Program]:
    """Everything that runs."""
    return [
        *servers(settings),
        *(services.program(settings, keys, name) for name in SERVICES),
        envoy.program(settings),
        envoy.watch_program(settings, keys),
    ]


@contextmanager
def lock(settings: Settings) -> Iterator[None]:
    """One command at a time changes a stack. Raises DevError when another one is at it."""
    settings.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    with (settings.folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DevError(f"Another command is changing the stack in {settings.folder}.") from None
        yield
