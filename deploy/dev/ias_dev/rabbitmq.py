"""RabbitMQ: a node of the stack's own, with its own Erlang port mapper, on 127.0.0.1 alone."""

import logging
from pathlib import Path

import aio_pika

from ias_dev import dotenv, programs, urls, waiting
from ias_dev.keys import Keys
from ias_dev.programs import Program
from ias_dev.settings import HOST, DevError, Settings

NAME = "rabbitmq"
EPMD = "epmd"

_CONFIGURATION = """\
listeners.tcp.1 = {host}:{port}
default_user = ias
default_pass = {password}
default_permissions.configure = .*
default_permissions.read = .*
default_permissions.write = .*
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 512MB
raft.wal_max_size_bytes = 67108864
log.console = true
log.console.level = info
"""


def program(settings: Settings) -> Program:
    """The broker: one scheduler that sleeps when idle, since the machine is shared."""
    folder = programs.folder_of(settings, NAME)
    arguments = [
        "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        "-start_epmd false",
        "-kernel inet_dist_use_interface {127,0,0,1}",
    ]
    return Program(
        name=NAME,
        title="RabbitMQ",
        folder=folder,
        command=[str(_server())],
        ports=[settings.ports.rabbitmq, settings.ports.rabbitmq_dist],
        environment={
            "HOME": str(folder),  # the Erlang cookie lies there
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(settings.ports.epmd),
            "RABBITMQ_NODENAME": "ias@localhost",
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "none.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(folder / "node.pid"),
            "RABBITMQ_DIST_PORT": str(settings.ports.rabbitmq_dist),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(arguments),
            # The launcher then becomes the Erlang VM instead of a shell that waits for it.
            "RUNNING_UNDER_SYSTEMD": "true",
        },
        stop_as_group=False,
        stop_wait_s=30,
        digest_of=[folder / "rabbitmq.conf"],
    )


def port_mapper(settings: Settings) -> Program:
    """epmd. Erlang would start one by itself, but then nobody would end it."""
    return Program(
        name=EPMD,
        title="Erlang's port mapper",
        folder=programs.folder_of(settings, EPMD),
        command=[
            programs.find("epmd"),
            *("-port", str(settings.ports.epmd), "-address", HOST),
        ],
        ports=[settings.ports.epmd],
    )


def prepare(settings: Settings, keys: Keys) -> None:
    """Writes its configuration and its cookie."""
    folder = programs.folder_of(settings, NAME)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = _CONFIGURATION.format(
        host=HOST, port=settings.ports.rabbitmq, password=keys.rabbitmq_password
    )
    dotenv.write_private(folder / "rabbitmq.conf", text)
    dotenv.write_private(folder / "enabled_plugins", "[].\n")
    cookie = folder / ".erlang.cookie"
    if not cookie.exists():
        dotenv.write_private(cookie, keys.erlang_cookie)
        cookie.chmod(0o400)


def wait(settings: Settings, keys: Keys) -> None:
    """Returns once a client can connect."""
    url = urls.amqp(settings, keys)
    # It would report every failed attempt; the last one is in the error.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    waiting.until(
        lambda: waiting.run(_connect(url)),
        "RabbitMQ",
        timeout_s=90,
        every_s=0.25,
        log=settings.logs / f"{NAME}.log",
    )


async def _connect(url: str) -> None:
    connection = await aio_pika.connect(url, timeout=5)
    await connection.close()


def _server() -> Path:
    # Debian's /usr/sbin/rabbitmq-server switches to the system's user and data; this one doesn't.
    server = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    if not server.exists():
        raise DevError("RabbitMQ is not installed; install the package rabbitmq-server.")
    return server
