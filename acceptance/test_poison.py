"""An event whose handling ends the process: it is tried with nothing else at work, and parked; nothing else suffers."""

import asyncio
import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from acceptance.api import Api
from acceptance.processes import Busbar, Ended, installation

PLUGIN = '''
"""A module that a memory error of a C library, say, takes the whole process with."""

import os
import signal

from busbar.sdk import PluginInfo, Subscription, hookimpl


async def read(ctx, event):
    if b"poison" in bytes(event.data):
        os.kill(os.getpid(), signal.SIGKILL)


@hookimpl
def busbar_plugin():
    return PluginInfo(name="brittle", title="Brittle", version="1.0", core=">=0.1,<0.2", module=True)


@hookimpl
def busbar_subscriptions():
    return (Subscription(name="brittle.reader", module="brittle", pattern=("PM_TICKET_CREATED",), handler=read),)
'''
POISON = 1
"""The number of the report whose handling ends the process."""
DEATHS = 5


def install(folder: Path) -> None:
    """The plugin, as a package manager leaves it."""
    (folder / "brittle.py").write_text(PLUGIN)
    about = folder / "brittle-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: brittle\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[busbar.plugins]\nbrittle = brittle\n")


async def report_until_death(busbar: Busbar, numbers: Iterator[int], acknowledged: set[str]) -> bool:
    """Report incidents all the time; whether the process ended before it had parked one."""
    try:
        await busbar.ready()
        async with Api(busbar.url) as api:
            while not (await api.get("/api/v1/deliveries/summary"))["parked"]:
                n = next(numbers)
                incident = {"asset_id": "TRF-1", "fault_type": "fault", "severity": "P3", "description": f"Report {n}"}
                incident |= {"description": "poison"} if n == POISON else {}
                acknowledged.add((await api.post("/api/v1/pm/incidents", incident))["ticket_id"])
                await asyncio.sleep(0.1)
        return False
    except (aiohttp.ClientError, Ended):
        return True


@pytest.mark.slow
class TestAnEventThatEndsTheProcess:
    async def test_is_parked_and_everything_else_is_done(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        acknowledged: set[str] = set()
        numbers = itertools.count()
        deaths = 0
        async with installation() as installed:
            busbar = await installed.start()
            async with Api(busbar.url) as api:
                site = {"site_id": "north", "name": "Depot North", "modules": ["pm", "brittle"]}
                await api.post("/api/v1/sites", site)
                asset = {"asset_id": "TRF-1", "asset_type": "transformer", "name": "Transformer", "site": "north"}
                await api.post("/api/v1/pm/assets", asset)
            async with asyncio.timeout(120):
                while await report_until_death(busbar, numbers, acknowledged):
                    assert await busbar.ended() == -signal.SIGKILL
                    deaths += 1
                    # What a supervisor does.
                    busbar = await installed.launch()
            assert deaths == DEATHS
            async with Api(busbar.url) as api:
                await api.drained(within_s=30)
                (dead,) = (await api.get("/api/v1/deliveries?state=dead"))["items"]
                assert dead["subscription"] == "brittle.reader"
                assert "5 times in a row, lately with nothing else at work" in dead["last_error"]
                assert (await api.get("/api/v1/deliveries/summary"))["balanced"]
            opened = await installed.query("select ticket_id, description like '%poison%' as poison from core.ticket")
            assert acknowledged <= {row["ticket_id"] for row in opened}
            assert [row["ticket_id"] for row in opened if row["poison"]] == [dead["subject"]]
            read = await installed.query(
                "select e.subject from core.delivery d join core.event e using (event_id) "
                "where d.subscription = 'brittle.reader' and d.state = 'delivered'"
            )
            assert {row["subject"] for row in read} == {row["ticket_id"] for row in opened if not row["poison"]}
