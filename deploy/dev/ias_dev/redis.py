"""Redis: memory alone, since all that it holds may vanish."""

from redis import Redis

from ias_dev import dotenv, programs, urls, waiting
from ias_dev.keys import Keys
from ias_dev.programs import Program
from ias_dev.settings import HOST, Settings

NAME = "redis"

_CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
save ""
appendonly no
maxmemory 256mb
maxmemory-policy volatile-lru
"""


def program(settings: Settings) -> Program:
    """The server."""
    folder = programs.folder_of(settings, NAME)
    return Program(
        name=NAME,
        title="Redis",
        folder=folder,
        command=[programs.find("redis-server"), "redis.conf"],
        ports=[settings.ports.redis],
        digest_of=[folder / "redis.conf"],
    )


def prepare(settings: Settings, keys: Keys) -> None:
    """Writes its configuration."""
    folder = programs.folder_of(settings, NAME)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = _CONFIGURATION.format(host=HOST, port=settings.ports.redis, password=keys.redis_password)
    dotenv.write_private(folder / "redis.conf", text)


def wait(settings: Settings, keys: Keys) -> None:
    """Returns once it answers."""
    with Redis.from_url(urls.redis(settings, keys), socket_timeout=5) as client:
        waiting.until(client.ping, "Redis", log=settings.logs / f"{NAME}.log")
