"""Alerts: each is told once, however many look at once, and what was kept is not told."""

import asyncio
from datetime import datetime, timedelta

import msgspec
import pytest

from busbar.auth.actor import Context, system_actor
from busbar.db import execute, fetchrow
from busbar.events.registry import REGISTRY
from busbar.tickets import commands, sla_alerts
from busbar.tickets.events import SlaAlert
from busbar.tickets.sla_alerts import tell_alerts
from busbar.tickets.tests.desk import Desk

WARNED_OF_RESPONSE = ("WARNING", "response", 1)
LATE_TO_RESPOND = ("BREACHED", "response", 1)
WARNED = ("WARNING", "resolution", 1)
LATE = ("BREACHED", "resolution", 1)


def job(desk: Desk) -> Context:
    return Context(actor=system_actor("core"), correlation_id="job", clock=desk.clock)


@pytest.fixture(autouse=True)
async def nothing_watched(desk: Desk) -> None:
    """Of the tickets of earlier tests."""
    await execute("update core.ticket set alert_due_at = null")


class TestAlerts:
    async def test_come_at_their_moments_in_order(self, desk: Desk) -> None:
        ticket_id = await desk.open(priority="P1")
        so_far = []
        # P1: 30 minutes and 4 hours, warned at 80 %.
        for minutes, told in ((24, WARNED_OF_RESPONSE), (30, LATE_TO_RESPOND), (192, WARNED), (240, LATE)):
            desk.clock.now = (await desk.ticket(ticket_id))["created_at"] + timedelta(minutes=minutes, seconds=-1)
            await tell_alerts(job(desk))
            assert await desk.alerts(ticket_id) == so_far, "a second too early"
            desk.clock.advance(seconds=1)
            await tell_alerts(job(desk))
            so_far.append(told)
            assert await desk.alerts(ticket_id) == so_far
        desk.clock.advance(hours=1_000)
        assert await tell_alerts(job(desk)) == 0

    async def test_say_what_was_promised_in_the_chain_of_the_ticket(self, desk: Desk) -> None:
        ticket_id = await desk.open(priority="P2")
        opened_at: datetime = desk.clock.now
        desk.clock.advance(hours=9)
        await tell_alerts(job(desk))
        row = await fetchrow("select * from core.event where subject = $1 order by seq desc limit 1", ticket_id)
        assert row is not None
        assert (row["event_type"], row["correlation_id"]) == ("TST_SLA_BREACHED", desk.ctx.correlation_id)
        alert = msgspec.json.decode(row["data"], type=SlaAlert)
        assert (alert.ticket_id, alert.site, alert.priority, alert.status) == (ticket_id, "north", "P2", "Open")
        assert (alert.target, alert.target_s, alert.sla_class) == ("resolution", 28_800, "standard")
        assert alert.reached_at == alert.deadline == opened_at + timedelta(hours=8)
        assert row["time"] == desk.clock.now, "events of a ticket are told in the order of their times"
        assert [action for action, _, _ in await desk.trail(ticket_id)] == [
            "ticket.open",
            *("ticket.sla_warning", "ticket.sla_breached", "ticket.sla_warning", "ticket.sla_breached"),
        ]
        assert (await desk.ticket(ticket_id))["version"] == 1, "nobody's change is made stale by an alert"

    async def test_are_told_once_when_several_look_at_once(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sla_alerts, "BATCH", 7)
        tickets = [await desk.open(priority="P1") for _ in range(40)]
        desk.clock.advance(hours=5)
        told = await asyncio.gather(*(tell_alerts(job(desk)) for _ in range(6)))
        await tell_alerts(job(desk))
        assert sum(told) == 4 * len(tickets)
        assert sum(1 for each in told if each) > 1, "several did some of it"
        for ticket_id in tickets:
            assert await desk.alerts(ticket_id) == [WARNED_OF_RESPONSE, LATE_TO_RESPOND, WARNED, LATE]

    async def test_are_told_as_a_whole_or_not_at_all(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        ticket_id = await desk.open(priority="P1")
        desk.clock.advance(hours=5)
        with monkeypatch.context() as broken:
            broken.setattr(sla_alerts, "_LOOKED_AT", "select no_such_column")
            with pytest.raises(Exception, match="no_such_column"):
                await tell_alerts(job(desk))
        assert await desk.alerts(ticket_id) == []
        assert await tell_alerts(job(desk)) == 4

    async def test_of_a_module_that_is_not_there_wait_for_it(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        ticket_id = await desk.open(priority="P1")
        desk.clock.advance(minutes=25)
        with monkeypatch.context() as without:
            without.setattr(REGISTRY, "_types", {})
            assert await tell_alerts(job(desk)) == 0
        assert await tell_alerts(job(desk)) == 1
        assert await desk.alerts(ticket_id) == [WARNED_OF_RESPONSE]


class TestWhatWasKept:
    async def test_a_response_in_time_is_not_told_as_late(self, desk: Desk) -> None:
        ticket_id = await desk.open(priority="P1", status="Assigned")
        desk.clock.advance(hours=3)
        assert await tell_alerts(job(desk)) == 0
        desk.clock.advance(hours=1)
        await tell_alerts(job(desk))
        assert await desk.alerts(ticket_id) == [WARNED, LATE]

    async def test_a_response_that_came_too_late_is_told_though_it_came_before_anybody_looked(self, desk: Desk) -> None:
        ticket_id = await desk.open(priority="P1")
        desk.clock.advance(minutes=31)
        await commands.change_status(desk.ctx, ticket_id, new_status="Assigned")
        await tell_alerts(job(desk))
        assert await desk.alerts(ticket_id) == [WARNED_OF_RESPONSE, LATE_TO_RESPOND]

    async def test_work_that_ended_too_late_is_told_though_it_ended_before_anybody_looked(self, desk: Desk) -> None:
        ticket_id = await desk.open(priority="P1", status="In_Progress")
        desk.clock.advance(hours=4)
        await commands.change_status(desk.ctx, ticket_id, new_status="Closed")
        await tell_alerts(job(desk))
        assert await desk.alerts(ticket_id) == [WARNED, LATE]
        assert (await desk.ticket(ticket_id))["alert_due_at"] is None

    @pytest.mark.parametrize("ending", ["Closed", "Cancelled"])
    async def test_work_that_ended_in_time_is_never_told(self, desk: Desk, ending: str) -> None:
        ticket_id = await desk.open(priority="P1", status=ending)
        assert (await desk.ticket(ticket_id))["alert_due_at"] is None
        desk.clock.advance(hours=100)
        assert await tell_alerts(job(desk)) == 0

    async def test_nothing_is_told_on_hold_and_all_of_it_later_by_as_much(self, desk: Desk) -> None:
        ticket_id = await desk.open(priority="P1", status="Assigned")
        desk.clock.advance(hours=3)
        await commands.hold(desk.ctx, ticket_id, reason="waits for a part")
        desk.clock.advance(hours=50)
        assert await tell_alerts(job(desk)) == 0
        await commands.resume(desk.ctx, ticket_id)
        assert await tell_alerts(job(desk)) == 0, "the warning is due 12 minutes later"
        desk.clock.advance(minutes=12)
        assert await tell_alerts(job(desk)) == 1
        desk.clock.advance(minutes=48)
        assert await tell_alerts(job(desk)) == 1
        assert await desk.alerts(ticket_id) == [WARNED, LATE]


class TestReopened:
    async def test_work_is_told_anew_in_a_new_round(self, desk: Desk) -> None:
        ticket_id = await desk.open(priority="P1", status="Closed")
        desk.clock.advance(hours=1)
        await commands.reopen(desk.ctx, ticket_id, reason="it is back")
        assert await tell_alerts(job(desk)) == 0, "its old deadline holds, and has not come"
        desk.clock.advance(hours=4)
        await tell_alerts(job(desk))
        assert await desk.alerts(ticket_id) == [("WARNING", "resolution", 2), ("BREACHED", "resolution", 2)]

    async def test_work_that_was_late_before_is_late_again(self, desk: Desk) -> None:
        ticket_id = await desk.open(priority="P1", status="In_Progress")
        desk.clock.advance(hours=5)
        await tell_alerts(job(desk))
        await commands.change_status(desk.ctx, ticket_id, new_status="Closed")
        await commands.reopen(desk.ctx, ticket_id, reason="it is back")
        await tell_alerts(job(desk))
        told = await desk.alerts(ticket_id)
        assert told == [WARNED, LATE, ("WARNING", "resolution", 2), ("BREACHED", "resolution", 2)]
