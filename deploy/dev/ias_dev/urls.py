"""The servers' addresses, with credentials: private ones unless others are asked for."""

from dataclasses import replace

from ias_dev import keys as keys_of
from ias_dev.keys import Keys
from ias_dev.settings import HOST, Settings


def database(settings: Settings, keys: Keys) -> str:
    """PostgreSQL as the services use it."""
    return settings.external_database_url or private_database(settings, keys)


def redis(settings: Settings, keys: Keys) -> str:
    """Redis."""
    return settings.external_redis_url or private_redis(settings, keys)


def amqp(settings: Settings, keys: Keys) -> str:
    """RabbitMQ."""
    return settings.external_amqp_url or private_amqp(settings, keys)


def private_database(settings: Settings, keys: Keys) -> str:
    """The stack's own PostgreSQL, as the owner of the database."""
    return f"postgresql://ias:{keys.database_password}@{HOST}:{settings.ports.postgres}/ias"


def superuser(settings: Settings, keys: Keys) -> str:
    """The stack's own PostgreSQL, as its superuser."""
    password = keys.postgres_password
    return f"postgresql://postgres:{password}@{HOST}:{settings.ports.postgres}/postgres"


def private_redis(settings: Settings, keys: Keys) -> str:
    """The stack's own Redis."""
    return f"redis://:{keys.redis_password}@{HOST}:{settings.ports.redis}/0"


def private_amqp(settings: Settings, keys: Keys) -> str:
    """The stack's own RabbitMQ."""
    return f"amqp://ias:{keys.rabbitmq_password}@{HOST}:{settings.ports.rabbitmq}/"


def without_own(settings: Settings) -> Settings:
    """The settings, where an "external" server that is the stack's own counts as private.

    A shell that has read dev.env has the stack's own addresses in its environment; `make dev-up`
    from there must not mistake them for other servers.
    """
    if not keys_of.exist(settings.folder):
        return settings
    keys = keys_of.load(settings.folder)
    own = {
        private_database(settings, keys),
        private_redis(settings, keys),
        private_amqp(settings, keys),
    }
    return replace(
        settings,
        external_database_url=_unless(settings.external_database_url, own),
        external_redis_url=_unless(settings.external_redis_url, own),
        external_amqp_url=_unless(settings.external_amqp_url, own),
    )


def _unless(url: str, own: set[str]) -> str:
    return "" if url in own else url
