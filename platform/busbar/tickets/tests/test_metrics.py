"""What the gauges say of tickets: by module and status, and those near or past their deadline."""

from datetime import timedelta
from typing import Any

import pytest

from busbar.db import execute
from busbar.observability import metrics
from busbar.tickets import commands
from busbar.tickets.metrics import AT_RISK, register_ticket_metrics
from busbar.tickets.tests.desk import Desk

pytestmark = pytest.mark.usefixtures("shared_database")


async def scrape(desk: Desk) -> dict[str, float]:
    """The values about tickets that Prometheus would read; what is 0 is told, and left out here."""
    register_ticket_metrics(desk.clock)
    try:
        text = (await metrics.exposition()).decode()
    finally:
        metrics.gauges.unregister("tickets")
    assert 'collector_up{collector="tickets"} 1.0' in text
    lines = [line for line in text.splitlines() if line.startswith(("ticket_count_by_status{", "sla_at_risk{"))]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def above_nothing(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value}


@pytest.fixture(autouse=True)
async def no_tickets(desk: Desk) -> None:
    await execute("delete from core.ticket")


class TestTicketCount:
    async def test_is_nothing_when_there_are_no_tickets(self, desk: Desk) -> None:
        assert await scrape(desk) == {}

    async def test_is_by_module_and_status(self, desk: Desk) -> None:
        for status in ("Open", "Open", "Assigned", "Closed", "Cancelled"):
            await desk.open(status=status, priority="P4")
        other = await desk.open(priority="P4")
        await execute("update core.ticket set module = 'oth' where ticket_id = $1", other)
        assert above_nothing(await scrape(desk)) == {
            'ticket_count_by_status{module="tst",status="Open"}': 2,
            'ticket_count_by_status{module="tst",status="Assigned"}': 1,
            'ticket_count_by_status{module="tst",status="Closed"}': 1,
            'ticket_count_by_status{module="tst",status="Cancelled"}': 1,
            'ticket_count_by_status{module="oth",status="Open"}': 1,
        }

    async def test_that_falls_to_nothing_is_told_as_0(self, desk: Desk) -> None:
        ticket_id = await desk.open()
        await commands.cancel(desk.ctx, ticket_id, reason="not needed")
        assert (await scrape(desk))['ticket_count_by_status{module="tst",status="Open"}'] == 0


class TestSlaAtRisk:
    async def at_risk(self, desk: Desk) -> tuple[float, float]:
        values = await scrape(desk)
        return tuple(values[f'sla_at_risk{{module="tst",state="{state}"}}'] for state in ("at_risk", "breached"))

    async def test_begins_an_hour_before_the_deadline_and_is_a_breach_after_it(self, desk: Desk) -> None:
        await desk.open(priority="P2")
        due = desk.clock.now + timedelta(hours=8)
        for moment, counts in (
            (due - AT_RISK, (0, 0)),
            (due - AT_RISK + timedelta(seconds=1), (1, 0)),
            (due, (1, 0)),
            (due + timedelta(seconds=1), (0, 1)),
        ):
            desk.clock.now = moment
            assert await self.at_risk(desk) == counts, moment - due

    @pytest.mark.parametrize(
        "state", [{"status": "Closed"}, {"status": "Cancelled"}, {"status": "Assigned", "on_hold": True}], ids=str
    )
    async def test_leaves_out_what_is_finished_or_on_hold(self, desk: Desk, state: dict[str, Any]) -> None:
        await desk.open(priority="P1", **state)
        desk.clock.advance(hours=9)
        assert await self.at_risk(desk) == (0, 0)
