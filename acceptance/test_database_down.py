"""The database is killed under load: callers are told to come back, nothing acknowledged is lost (promise 2)."""

import asyncio
import itertools
import os
import signal
import time
from pathlib import Path

import aiohttp
import pytest

from acceptance.api import Api
from acceptance.processes import Installation, installation
from acceptance.world import incident, world

KILLS = 3
RECOVERY_S_MAX = 15.0


async def kill_database(installed: Installation) -> None:
    """kill -9 of the server's first process."""
    rows = await installed.query("select current_setting('data_directory') as folder")
    pid = int(Path(rows[0]["folder"], "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
class TestDatabaseKilled:
    @pytest.mark.timeout(300)
    async def test_a_killed_database_loses_nothing_and_busbar_recovers_by_itself(self) -> None:
        acknowledged: list[str] = []
        answers: set[int] = set()
        # A database that lies about durability would lose what it acknowledged.
        async with installation(fast_and_unsafe=False) as installed, world(installed) as around:
            busbar = await installed.start()
            async with Api(busbar.url) as api:
                await around.furnish(api)
                numbers = itertools.count()

                async def load() -> None:
                    while True:
                        try:
                            status, answer = await api.send("POST", "/api/v1/pm/incidents", incident(next(numbers)))
                        except aiohttp.ClientError:
                            continue
                        answers.add(status)
                        if status == 201:
                            acknowledged.append(answer["ticket_id"])
                        else:
                            await asyncio.sleep(0.1)

                loading = [asyncio.create_task(load()) for _ in range(8)]
                for _ in range(KILLS):
                    await asyncio.sleep(1)
                    await kill_database(installed)
                    before, began = len(acknowledged), time.monotonic()
                    while len(acknowledged) < before + 20:
                        assert time.monotonic() - began < RECOVERY_S_MAX, "Busbar does not recover"
                        await asyncio.sleep(0.05)
                for task in loading:
                    task.cancel()
                await asyncio.wait(loading)
                await busbar.ready()
                await api.drained(within_s=120)
                summary = await api.get("/api/v1/deliveries/summary")
                assert summary["parked"] == 0
            assert answers <= {201, 503}, f"callers were told {answers}"
            assert busbar.runs()
            await around.check_each_once(acknowledged)
