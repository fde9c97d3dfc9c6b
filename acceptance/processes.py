"""Starts, awaits and kills the processes of a run: database, simulator, any number of Busbars."""

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from acceptance.json_process import JsonProcess
from acceptance.rabbitmq import fresh_vhost
from acceptance.schemas import check_events

PASSWORD = "correct horse battery staple"
READY_S_MAX = 60.0


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Ended(AssertionError):
    """A process ended that should run."""


class Busbar:
    """One Busbar process that serves HTTP."""

    def __init__(self, pid: int, port: int, log: Path, zygote: JsonProcess) -> None:
        self.pid, self.port, self.log, self._zygote = pid, port, log, zygote
        self.url = f"http://127.0.0.1:{port}"

    async def ready(self) -> None:
        """Wait until it is ready. Raises Ended when it ends instead."""
        async with aiohttp.ClientSession() as session, asyncio.timeout(READY_S_MAX):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self.url}/health/ready") as answer:
                        if answer.status == 200:
                            return
                if not self.runs():
                    raise Ended(f"Busbar ended instead of getting ready:\n{self.log.read_text()[-3000:]}")
                await asyncio.sleep(0.05)

    def runs(self) -> bool:
        """Whether the process has not ended; one that has is a zombie until it is waited for."""
        with contextlib.suppress(FileNotFoundError):
            return Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        return False

    async def ended(self) -> int:
        """Wait for the end; the exit code, or minus the number of the signal that killed it."""
        answer = await asyncio.to_thread(self._zygote.ask, {"wait": self.pid})
        return int(answer["status"])

    async def kill(self) -> None:
        """kill -9."""
        os.kill(self.pid, signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """SIGTERM, and wait."""
        os.kill(self.pid, signal.SIGTERM)
        return await self.ended()

    def memory_bytes(self) -> int:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class Installation:
    """A folder with a database server, and a broker's virtual host in some runs, from which Busbars are started."""

    def __init__(self, folder: Path, dsn: str, zygote: JsonProcess, amqp_url: str | None) -> None:
        self.folder, self.dsn, self.amqp_url, self._zygote = folder, dsn, amqp_url, zygote
        self._started: list[Busbar] = []

    async def start(self, *arguments: str, port: int | None = None, **environment: str) -> Busbar:
        """Start a Busbar, by default `busbar serve`, and wait until it is ready."""
        busbar = await self.launch(*arguments, port=port, **environment)
        await busbar.ready()
        return busbar

    async def launch(self, *arguments: str, port: int | None = None, **environment: str) -> Busbar:
        """Start a Busbar, and do not wait."""
        port = port or free_port()
        log = self.folder / f"busbar-{len(self._started)}.log"
        asked = {
            "arguments": arguments or ("serve",),
            "log": str(log),
            "environment": {
                "BUSBAR_HOME": str(self.folder / "home"),
                "BUSBAR_PORT": str(port),
                "BUSBAR_ADMIN_PASSWORD": PASSWORD,
                "BUSBAR_TAKEOVER_S": "0.3",
                "DATABASE_URL": self.dsn,
                "AMQP_URL": self.amqp_url or "",
                **environment,
            },
        }
        answer = await asyncio.to_thread(self._zygote.ask, asked)
        busbar = Busbar(answer["pid"], port, log, self._zygote)
        self._started.append(busbar)
        return busbar

    @property
    def has_events(self) -> bool:
        """Whether a Busbar ran here, so that there are tables and perhaps events."""
        return bool(self._started)

    async def query(self, sql: str, *values: Any) -> list[asyncpg.Record]:
        """Ask the database, past Busbar."""
        connection = await asyncpg.connect(self.dsn)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *values)
            return rows
        finally:
            await connection.close()

    async def close(self) -> None:
        """Kill what still runs."""
        for busbar in self._started:
            if busbar.runs():
                await busbar.kill()


@contextlib.asynccontextmanager
async def installation(*, fast_and_unsafe: bool = True) -> AsyncIterator[Installation]:
    """A fresh installation for the time of the block; at its end every event is held against its published schema.

    `fast_and_unsafe` lets the database lie about durability: a crash of Busbar does not show it, only one of the
    machine or of the database would.
    """
    with tempfile.TemporaryDirectory(prefix="busbar-acceptance-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        flags = ["--fast-and-unsafe"] if fast_and_unsafe else []
        server = JsonProcess("-m", "busbar.testing.database_server", str(folder / "database"), *flags)
        zygote = JsonProcess("-m", "busbar.testing.zygote")
        try:
            dsn = (await asyncio.to_thread(server.read))["dsn"]
            async with fresh_vhost() as amqp_url:
                running = Installation(folder, dsn, zygote, amqp_url)
                try:
                    yield running
                    if running.has_events:
                        await check_events(dsn)
                finally:
                    await running.close()
        finally:
            zygote.close()
            server.close()
