"""A RabbitMQ that a test may stop and start: private folder, private ports, loopback only."""

import asyncio
import os
import signal
import socket
from pathlib import Path

_BIN = Path("/usr/lib/rabbitmq/bin")


class PrivateBroker:
    """One node. Three ports from `port` on are used; free ones when it is 0."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        ports = [port, port + 1, port + 2] if port else _free_ports(3)
        self.port, dist, epmd = ports
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self._folder = folder
        self._epmd_port = epmd
        self._process: asyncio.subprocess.Process | None = None
        self._epmd: asyncio.subprocess.Process | None = None
        self._environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"ias{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(dist),
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            # Erlang's port mapper would detach itself and stay; ours is a child like any other.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false",
        }

    @staticmethod
    def installed() -> bool:
        """Whether there is a server to start."""
        return (_BIN / "rabbitmq-server").exists()

    async def start(self) -> None:
        """Returns when the broker takes connections."""
        (self._folder / "rabbitmq.conf").write_text("disk_free_limit.absolute = 50MB\n")
        self._epmd = await asyncio.create_subprocess_exec(
            "epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"
        )
        with (self._folder / "output").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                str(_BIN / "rabbitmq-server"),
                env=self._environment,
                stdout=output,
                stderr=output,
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        async with asyncio.timeout(90):
            while not await self._listens():
                if self._process.returncode is not None:
                    raise RuntimeError((self._folder / "output").read_text()[-2000:])
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Stops the node in order; what is persistent stays."""
        assert self._process is not None
        assert self._epmd is not None
        os.killpg(self._process.pid, signal.SIGTERM)
        await self._process.wait()
        self._epmd.terminate()
        await self._epmd.wait()

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
