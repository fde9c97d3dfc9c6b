"""What does Busbar need to start, to idle, and in a storm?

Start and idling are those of `busbar up` with everything embedded. The storm is 10,000 incidents in a minute, against
`busbar serve` with relay and workers, delivered to the simulator, which is a process of its own.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import psutil
from acceptance.api import Api
from acceptance.processes import PASSWORD, free_port, installation
from acceptance.world import world

from benchmarks.findings import Cell, Findings, Goal, Scale, Table, at_most, median
from benchmarks.processes import cpu_s, memory_mb, postmaster_of
from benchmarks.storm import storm

QUESTION = "What does Busbar need to start, to idle, and in a storm?"
READY_S_MAX = 120.0
WARM_STARTS = 3
IDLE_S = 20.0
STORM, STORM_S = 10_000, 60.0
DRAIN_S_MAX = 600
ACCEPT_P99_MS_MAX = 500
GROWTH_MB_MAX = 150


async def measure(scale: Scale) -> Findings:
    """Measure the starts, then idling, then the storm."""
    with tempfile.TemporaryDirectory(prefix="busbar-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        alone = await _start_and_idle(Path(name, "home"), scale)
    stormy, goals = await _storm(scale)
    columns = ("", "found", "unit")
    return Findings(
        tables=(
            Table(title="`busbar up`, everything embedded", columns=columns, rows=alone),
            Table(
                title=f"{scale.count(STORM):,} incidents in {scale.seconds(STORM_S):.0f} s",
                columns=columns,
                rows=stormy,
            ),
        ),
        goals=goals,
    )


async def _start_and_idle(home: Path, scale: Scale) -> tuple[tuple[Cell, ...], ...]:
    up = _Up(home)
    cold_s = await up.start()
    await up.stop()
    warm_s, stop_s = [], []
    for n in range(WARM_STARTS):
        if n:
            stop_s.append(await up.stop())
        warm_s.append(await up.start())
    app, database = psutil.Process(up.process.pid), up.database()
    await asyncio.sleep(scale.seconds(IDLE_S))
    before, began = (cpu_s(app), cpu_s(database)), time.perf_counter()
    await asyncio.sleep(scale.seconds(IDLE_S))
    idle_s = time.perf_counter() - began
    # The database is a child of the application's child, so its time is in both.
    app_s, database_s = cpu_s(app) - before[0], cpu_s(database) - before[1]
    rows: tuple[tuple[Cell, ...], ...] = (
        ("from an empty folder to ready", cold_s, "s"),
        (f"to ready again, median of {WARM_STARTS}", median(warm_s), "s"),
        ("to stopped after SIGTERM, median", median(stop_s), "s"),
        ("memory of the app when idle (RSS, simulators included)", app.memory_info().rss / 1e6, "MB"),
        ("memory of PostgreSQL when idle (PSS)", memory_mb(database), "MB"),
        ("processor when idle, app", 100 * max(0.0, app_s - database_s) / idle_s, "% of a core"),
        ("processor when idle, PostgreSQL", 100 * database_s / idle_s, "% of a core"),
    )
    await up.stop()
    return rows


class _Up:
    """`busbar up` in a home of its own, several times one after the other."""

    def __init__(self, home: Path) -> None:
        self._home, self._port = home, free_port()

    async def start(self) -> float:
        """Start; the seconds until it says that it is ready."""
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"} | {
            "BUSBAR_HOME": str(self._home),
            "BUSBAR_PORT": str(self._port),
            "BUSBAR_SIMULATOR_PORT": str(self._port + 1),
            "BUSBAR_ADMIN_PASSWORD": PASSWORD,
        }
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "busbar", "up"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        async with aiohttp.ClientSession() as session, asyncio.timeout(READY_S_MAX):
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{self._port}/health/ready") as answer:
                        if answer.status == 200:
                            return time.perf_counter() - began
                except aiohttp.ClientError:
                    assert self.process.poll() is None, f"busbar up ended with {self.process.returncode}"
                await asyncio.sleep(0.01)

    async def stop(self) -> float:
        """Stop by SIGTERM; the seconds until it has ended."""
        began = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(self.process.wait, READY_S_MAX)
        return time.perf_counter() - began

    def database(self) -> psutil.Process:
        """The embedded server."""
        return psutil.Process(int(Path(self._home, "postgres", "data", "postmaster.pid").read_text().split()[0]))


async def _storm(scale: Scale) -> tuple[tuple[tuple[Cell, ...], ...], tuple[Goal, ...]]:
    async with installation(fast_and_unsafe=False) as installed, world(installed) as around:
        busbar = await installed.start()
        app, database = psutil.Process(busbar.pid), await postmaster_of(installed)
        async with Api(busbar.url) as api:
            await around.furnish(api)
            before = busbar.memory_bytes()
            most = asyncio.create_task(_peak_bytes(app))
            told = await storm(busbar.url, incidents=scale.count(STORM), seconds=scale.seconds(STORM_S))
            began = time.perf_counter()
            await api.drained(within_s=DRAIN_S_MAX)
            drain_s = time.perf_counter() - began
            most.cancel()
            peak, after, database_mb = await most, busbar.memory_bytes(), memory_mb(database)
        stored = [row["ticket_id"] for row in await installed.query("select ticket_id from core.ticket")]
        once = await around.check_each_once(stored)
    lost = told.accepted - once
    growth_mb = (peak - before) / 1e6
    rows: tuple[tuple[Cell, ...], ...] = (
        ("accepted", told.accepted, "incidents"),
        ("refused for now", told.refused, "incidents"),
        ("failed", told.failed, "incidents"),
        ("accepted, rate", told.per_second, "per second"),
        ("accepted within, p50", told.p50_ms, "ms"),
        ("accepted within, p99", told.p99_ms, "ms"),
        ("until all were at the simulator, after the last report", drain_s, "s"),
        ("accepted and not once everywhere", lost, "incidents"),
        ("memory of the app before (RSS)", before / 1e6, "MB"),
        ("at its most", peak / 1e6, "MB"),
        ("after", after / 1e6, "MB"),
        ("memory of PostgreSQL after (PSS)", database_mb, "MB"),
    )
    goals = (
        at_most("storm: accepted within, p99 in ms", told.p99_ms, ACCEPT_P99_MS_MAX),
        at_most("storm: refused, failed or lost", told.refused + told.failed + lost, 0),
        at_most("storm: growth of the app's memory in MB", growth_mb, GROWTH_MB_MAX),
    )
    return rows, goals


async def _peak_bytes(process: psutil.Process) -> int:
    """The most resident memory until cancelled."""
    most = 0
    try:
        while True:
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.2)
    except asyncio.CancelledError:
        return most
