"""SIGTERM finishes what runs, and a database that is gone is told of within seconds and forgotten by itself."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from busbar.db.embedded import start_embedded
from busbar.schema.core import CORE
from busbar.testing.app import PASSWORD, Client, RunningApp, running_app
from busbar.testing.database import TestServer

CALLERS = 16
STOP_S_MAX = 30
TOLD_S_MAX = 3.0
RECOVERY_S_MAX = 20.0


class Process:
    """A `busbar serve` of its own."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    async def stop(self) -> tuple[int, float]:
        """SIGTERM; the exit code, and the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_S_MAX + 5):
            code = await self.process.wait()
        return code, time.monotonic() - began


@asynccontextmanager
async def served(postgres: TestServer, home: Path) -> AsyncIterator[tuple[Process, str]]:
    """A process that serves a fresh database; gives it, and the address of the database."""
    name, dsn = await postgres.create_database((CORE,))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "BUSBAR_HOME": str(home),
        "BUSBAR_PORT": str(port),
        "BUSBAR_ADMIN_PASSWORD": PASSWORD,
        "DATABASE_URL": dsn,
    }
    log = (home / "log").open("wb")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "busbar", "serve", env=environment, stdout=log, stderr=log
    )
    try:
        running = Process(process, f"http://127.0.0.1:{port}")
        await ready(running, home / "log")
        yield running, dsn
    finally:
        log.close()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await postgres.drop_database(name)


async def ready(running: Process, log: Path) -> None:
    """Wait until it serves."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while running.process.returncode is None:
            try:
                async with session.get(f"{running.url}/health/ready") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
    raise AssertionError(f"it ended instead of getting ready:\n{log.read_text()[-2_000:]}")


async def prepared(session: aiohttp.ClientSession, url: str) -> tuple[Client, str]:
    """The administrator, and an asset to report incidents of."""
    login = {"username": "admin", "password": PASSWORD}
    tokens = await Client(session, url).post("/auth/login", login, status=200)
    admin = Client(session, url, token=tokens["access_token"])
    await admin.post("/sites", {"site_id": "a", "name": "A", "modules": ["pm"]})
    asset = await admin.post("/pm/assets", {"asset_type": "feeder", "name": "Feeder 7", "site": "a"})
    return admin, str(asset["asset_id"])


def incident(asset_id: str, description: str = "A bird on the line") -> dict[str, Any]:
    return {"asset_id": asset_id, "fault_type": "fault", "severity": "P3", "description": description}


class TestSigterm:
    async def test_while_requests_run_loses_none_that_was_acknowledged_and_answers_all(
        self, postgres: TestServer, tmp_path: Path
    ) -> None:
        acknowledged: list[str] = []
        answers: set[int] = set()
        async with served(postgres, tmp_path) as (process, dsn), aiohttp.ClientSession() as session:
            admin, asset_id = await prepared(session, process.url)
            enough = asyncio.Event()

            async def report() -> None:
                while True:
                    try:
                        answer = await admin.send("POST", "/pm/incidents", incident(asset_id))
                    except (aiohttp.ClientConnectionError, ConnectionError):
                        return
                    answers.add(answer.status)
                    if answer.status == 201:
                        acknowledged.append(answer.body["ticket_id"])
                    if len(acknowledged) >= 200:
                        enough.set()

            async with admin.stream("/events/stream") as stream:
                assert stream.status == 200
                callers = [asyncio.create_task(report()) for _ in range(CALLERS)]
                await enough.wait()
                code, seconds = await process.stop()
                await asyncio.gather(*callers)
            assert code == 0
            assert seconds < STOP_S_MAX
            assert answers <= {201, 503}
            rows = await query(dsn, "select ticket_id from core.ticket")
            assert {row["ticket_id"] for row in rows} == set(acknowledged)
            assert await query(dsn, "select 1 from core.delivery where state = 'in_flight'") == []


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that the user who runs PostgreSQL can reach, as pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="busbar-outage-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


class TestDatabaseGone:
    @pytest.mark.timeout(120)
    async def test_is_told_within_seconds_and_ends_by_itself(self, home: Path) -> None:
        server = await start_embedded(home, fast_and_unsafe=True)
        try:
            name, dsn = await TestServer(server).create_database((CORE,))
            async with running_app(TestServer(server), dsn=dsn, pool_size=4) as app:
                admin = await app.client()
                asset = await admin.post("/pm/assets", {"asset_type": "feeder", "name": name, "site": "a"})
                before = await admin.post("/pm/incidents", incident(asset["asset_id"]))
                await server.stop()
                await self.check_outage(app, admin, asset["asset_id"])
                server = await start_embedded(home, fast_and_unsafe=True)
                await recovered(app, admin, asset["asset_id"])
                assert (await admin.get(f"/tickets/{before['ticket_id']}"))["status"] == "Open"
                await app.quiet()
        finally:
            await server.stop()

    async def check_outage(self, app: RunningApp, admin: Client, asset_id: str) -> None:
        async with asyncio.timeout(30):
            while (await app.anonymous.send("GET", "//health/ready")).status == 200:
                pass
        for path in ("//health/ready", "/tickets", f"/pm/assets/{asset_id}"):
            began = time.monotonic()
            answer = await admin.send("GET", path)
            assert (answer.status, answer.body["code"]) == (503, "SYS_002"), (path, answer)
            assert answer.headers["Retry-After"], path
            assert time.monotonic() - began < TOLD_S_MAX, path
        answer = await admin.send("POST", "/pm/incidents", incident(asset_id, "during the outage"))
        assert answer.status == 503
        live = await app.anonymous.send("GET", "//health/live")
        assert live.status == 200, "a restart of Busbar would not bring the database back"
        metrics = await app.anonymous.send("GET", "//metrics")
        assert metrics.status == 200
        assert b'collector_up{collector="ledger"} 0.0' in metrics.content


async def recovered(app: RunningApp, admin: Client, asset_id: str) -> None:
    """Wait until it is ready again, and works."""
    async with asyncio.timeout(RECOVERY_S_MAX):
        while (await app.anonymous.send("GET", "//health/ready")).status != 200:
            await asyncio.sleep(0.05)
        while (await admin.send("POST", "/pm/incidents", incident(asset_id, "afterwards"))).status != 201:
            await asyncio.sleep(0.05)


async def query(dsn: str, sql: str) -> list[asyncpg.Record]:
    """Ask the database, past Busbar."""
    connection = await asyncpg.connect(dsn)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(sql)
        return rows
    finally:
        await connection.close()
