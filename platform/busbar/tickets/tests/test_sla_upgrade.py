"""Tickets from before there were service levels: their promise is read off their deadline and their trail."""

from datetime import timedelta
from importlib.resources import files

from busbar.auth.actor import Context, system_actor
from busbar.db import execute
from busbar.tickets import commands
from busbar.tickets.sla_alerts import tell_alerts
from busbar.tickets.sla_explained import explain_ticket
from busbar.tickets.tests.desk import Desk

_BEFORE = """
update core.ticket set response_target_s = null, resolution_target_s = null, response_deadline = null,
    responded_at = null, alert_due_at = null;
truncate core.ticket_hold;
"""


async def upgrade() -> None:
    """Run the part of the migration that looks at tickets which are there already."""
    text = (files("busbar.schema.migrations") / "core_0007_sla.sql").read_text("utf-8")
    _, there_already = text.split("-- Tickets from before")
    await execute(_BEFORE)
    await execute(f"-- {there_already}")


class TestTicketFromBefore:
    async def test_keeps_its_deadline_and_has_it_explained(self, desk: Desk) -> None:
        ticket_id = await desk.open(priority="P2")
        created_at = desk.clock.now
        desk.clock.advance(minutes=10)
        await commands.change_status(desk.ctx, ticket_id, new_status="Assigned")
        responded_at = desk.clock.now
        await commands.hold(desk.ctx, ticket_id, reason="waits")
        desk.clock.advance(hours=3, seconds=0.75)
        await commands.resume(desk.ctx, ticket_id)
        before = await desk.ticket(ticket_id)
        await upgrade()
        ticket = await desk.ticket(ticket_id)
        assert ticket["sla_deadline"] == before["sla_deadline"] == created_at + timedelta(hours=11, seconds=0.75)
        assert (ticket["resolution_target_s"], ticket["responded_at"]) == (28_800, responded_at)
        told = await explain_ticket(desk.ctx, ticket_id)
        assert told.response is None
        assert told.resolution.deadline == ticket["sla_deadline"]
        assert [each.kind for each in told.resolution.segments if not each.ahead] == ["working", "on_hold"]

    async def test_is_watched_if_its_deadline_is_still_to_come(self, desk: Desk) -> None:
        job = Context(actor=system_actor("core"), correlation_id="job", clock=desk.clock)
        await execute("update core.ticket set alert_due_at = null")
        long_ago = desk.clock.now
        late = await desk.open(priority="P1")
        await execute("update core.ticket set sla_deadline = now() - interval '1 day' where ticket_id = $1", late)
        coming, ended = await desk.open(priority="P4"), await desk.open(priority="P4", status="Closed")
        await execute("update core.ticket set sla_deadline = now() + interval '1 day' where ticket_id <> $1", late)
        await upgrade()
        due = {each: (await desk.ticket(each))["alert_due_at"] for each in (late, coming, ended)}
        assert due == {late: None, coming: long_ago, ended: None}
        assert await tell_alerts(job) == 0
        assert (await desk.ticket(coming))["alert_due_at"] > desk.clock.now
