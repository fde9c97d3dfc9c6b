"""Alerts across a restart: what came while no process ran is told by the next one, and nothing twice."""

import asyncio
from datetime import timedelta

from busbar.db import fetchval
from busbar.host.loader import installed, load
from busbar.schema.core import CORE
from busbar.testing.database import TestServer
from busbar.tickets.sla_alerts import tell_alerts
from busbar.tickets.tests.desk import HandClock
from busbar.tickets.tests.utility import MONDAY, utility

_ALERTS = "select count(*) from core.event where event_type like '%SLA%'"


class TestAlerts:
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
                async with asyncio.timeout(15):
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
