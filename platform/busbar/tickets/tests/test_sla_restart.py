"""Alerts across processes: what came while none ran is told by the next one, and nothing twice by several."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from datetime import datetime, timedelta

import pytest

from busbar.db import fetchval
from busbar.host.loader import installed, load
from busbar.schema.core import CORE
from busbar.testing.database import TestServer
from busbar.tickets.sla_alerts import tell_alerts
from busbar.tickets.tests.desk import HandClock
from busbar.tickets.tests.utility import MONDAY, utility

_ALERTS = "select count(*) from core.event where event_type like '%SLA%'"

_PROCESS = """
import asyncio, sys
from datetime import datetime
from busbar.auth.actor import Context, system_actor
from busbar.db import open_pools
from busbar.events.registry import REGISTRY
from busbar.tickets import sla_alerts

async def main():
    REGISTRY.register(sla_alerts.event_types_of("pm")[0])
    REGISTRY.register(sla_alerts.event_types_of("pm")[1])
    sla_alerts.BATCH = 1
    now = datetime.fromisoformat(sys.argv[2])
    ctx = Context(actor=system_actor("core"), correlation_id="job", clock=lambda: now)
    async with open_pools(sys.argv[1], size=2, background_size=1):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(await sla_alerts.tell_alerts(ctx))

asyncio.run(main())
"""
"""A process that tells alerts, ticket by ticket, when it gets a line."""


async def _told_by_two_processes(dsn: str, now: datetime) -> list[int]:
    """How many alerts each of them told."""
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PROCESS, dsn, now.isoformat()), stdin=PIPE, stdout=PIPE
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    told = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    return [int(out) for out, _ in told]


class TestAlerts:
    async def test_are_told_once_each_by_processes_that_look_at_the_same_time(self, postgres: TestServer) -> None:
        clock = HandClock()
        clock.now = MONDAY
        async with utility(postgres, clock) as running:
            # On a busy machine the first may have told them all before the second is heard: then once more.
            for _ in range(10):
                tickets = [await running.incident("a") for _ in range(30)]
                counts = await _told_by_two_processes(running.app.platform.dsn, MONDAY + timedelta(hours=5))
                assert sum(counts) == 4 * len(tickets)
                assert {len(await running.alerts(each)) for each in tickets} == {4}
                if min(counts) > 0:
                    return
        pytest.fail("The two never worked at the same time, so nothing was put to the test.")

    async def test_are_told_once_each_by_several_at_once_and_across_a_restart(self, postgres: TestServer) -> None:
        schemas = [plugin.schema for plugin in load(installed()) if plugin.schema is not None]
        name, dsn = await postgres.create_database((CORE, *schemas))
        clock = HandClock()
        clock.now = MONDAY
        response = ["PM_SLA_WARNING response", "PM_SLA_BREACHED response"]
        try:
            async with utility(postgres, clock, dsn=dsn) as first:
                tickets = [await first.incident("a") for _ in range(12)]
                await first.later(minutes=31)
                await asyncio.gather(*(tell_alerts(first.system) for _ in range(4)))
                assert [await first.alerts(each) for each in tickets] == [response] * 12
            clock.now += timedelta(hours=4)
            async with utility(postgres, clock, dsn=dsn) as second:
                # The job of the new process tells what came while none ran; nobody else does.
                async with asyncio.timeout(30):
                    while await fetchval(_ALERTS) < 48:
                        await asyncio.sleep(0.05)
                await asyncio.gather(*(tell_alerts(second.system) for _ in range(4)))
                resolution = ["PM_SLA_WARNING resolution", "PM_SLA_BREACHED resolution"]
                assert [await second.alerts(each) for each in tickets] == [response + resolution] * 12
                told = (await second.client.get(f"/tickets/{tickets[0]}/sla"))["alerts_told"]
                assert len(told) == 4
                assert await fetchval("select last_error from core.job where name = 'core.sla'") is None
        finally:
            await postgres.drop_database(name)
