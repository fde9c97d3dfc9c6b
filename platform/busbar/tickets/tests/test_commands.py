"""What changes a ticket: one audit entry and one event in the same transaction, and nothing at all when refused."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from busbar.auth.actor import Context
from busbar.db import execute, fetchrow
from busbar.errors import BusbarError, Forbidden, ForbiddenTransition, NotFound, RuleViolated, StaleVersion
from busbar.events.registry import REGISTRY, EventTypeRefused
from busbar.tickets import commands
from busbar.tickets.tests.desk import UPDATED, Desk, add_user
from busbar.web.conditional import IfMatch

Change = Callable[..., Awaitable[int]]

CHANGES: list[tuple[str, dict[str, Any], Change, dict[str, str]]] = [
    ("move", {}, commands.change_status, {"new_status": "Assigned"}),
    ("assign", {}, commands.assign, {"assignee": "noor"}),
    ("set_priority", {}, commands.set_priority, {"priority": "P1"}),
    ("hold", {"status": "In_Progress"}, commands.hold, {"reason": "waits"}),
    ("resume", {"on_hold": True}, commands.resume, {}),
    ("cancel", {"status": "Assigned"}, commands.cancel, {"reason": "false alarm"}),
    ("reopen", {"status": "Closed"}, commands.reopen, {"reason": "it is back"}),
    ("note", {"status": "Cancelled"}, commands.note, {"comment": "seen"}),
]
"""Each command with a state in which it is allowed."""
each_change = pytest.mark.parametrize(("action", "state", "change", "how"), CHANGES, ids=[c[0] for c in CHANGES])

_TRANSACTIONS = """
select t.xmin::text as ticket, a.xmin::text as entry, e.xmin::text as event, a.correlation_id as of_entry,
    e.correlation_id as of_event, a.actor_name, a.at, e.time
from core.ticket t
join lateral (select xmin, * from core.audit where object_id = t.ticket_id order by audit_id desc limit 1) a on true
join lateral (select xmin, * from core.event where subject = t.ticket_id order by seq desc limit 1) e on true
where t.ticket_id = $1
"""


class TestEveryChange:
    @each_change
    async def test_writes_ticket_entry_and_event_in_one_transaction(
        self, desk: Desk, action: str, state: dict[str, Any], change: Change, how: dict[str, str]
    ) -> None:
        await add_user("noor")
        ticket_id = await desk.open(**state)
        before, entries, told = await desk.ticket(ticket_id), await desk.trail(ticket_id), await desk.told(ticket_id)
        desk.clock.advance(minutes=7)
        version = await change(desk.ctx, ticket_id, **how)

        after = await desk.ticket(ticket_id)
        assert version == after["version"] == before["version"] + 1
        assert after["updated_at"] == desk.clock.now
        assert await desk.trail(ticket_id) == [*entries, (f"ticket.{action}", before["status"], after["status"])]
        row = await fetchrow(_TRANSACTIONS, ticket_id)
        assert row["ticket"] == row["entry"] == row["event"], "all three were written by one transaction"
        assert row["of_entry"] == row["of_event"] == desk.ctx.correlation_id
        assert (row["actor_name"], row["at"], row["time"]) == ("mia", desk.clock.now, desk.clock.now)

        *earlier, last = await desk.told(ticket_id)
        assert earlier == told
        assert (last.action, last.previous_status) == (action, before["status"])
        for name in ("status", "priority", "assignee", "on_hold", "version", "sla_deadline", "title"):
            assert getattr(last, name) == after[name], name

    @each_change
    async def test_is_undone_as_a_whole_when_its_event_cannot_be_told(
        self, desk: Desk, monkeypatch: Any, action: str, state: dict[str, Any], change: Change, how: dict[str, str]
    ) -> None:
        await add_user("noor")
        ticket_id = await desk.open(**state)
        monkeypatch.delitem(REGISTRY._types, UPDATED.name)
        async with desk.nothing_written():
            with pytest.raises(EventTypeRefused):
                await change(desk.ctx, ticket_id, **how)

    @each_change
    @pytest.mark.parametrize(
        ("who", "error"),
        [
            ({"site": "south"}, NotFound),
            ({"permissions": ("oth.read", "oth.write", "tickets.write")}, NotFound),
            ({"permissions": ("tst.read",)}, Forbidden),
        ],
        ids=["of another site", "of another module", "who only reads"],
    )
    async def test_is_refused_to_a_stranger(
        self,
        desk: Desk,
        action: str,
        state: dict[str, Any],
        change: Change,
        how: dict[str, str],
        who: dict[str, Any],
        error: type[BusbarError],
    ) -> None:
        await add_user("noor")
        ticket_id = await desk.open(**state)
        async with desk.nothing_written():
            with pytest.raises(error):
                await change(desk.context("stranger", **who), ticket_id, **how)

    @each_change
    async def test_is_refused_on_a_stale_version_or_an_unknown_ticket(
        self, desk: Desk, action: str, state: dict[str, Any], change: Change, how: dict[str, str]
    ) -> None:
        await add_user("noor")
        ticket_id = await desk.open(**state)
        current = (await desk.ticket(ticket_id))["version"]
        async with desk.nothing_written():
            for version in (current - 1, current + 1):
                with pytest.raises(StaleVersion):
                    await change(desk.ctx, ticket_id, **how, expected=IfMatch(versions=(version,)))
            with pytest.raises(NotFound, match="TKT-TST-20261123-9999"):
                await change(desk.ctx, "TKT-TST-20261123-9999", **how)
        await change(desk.ctx, ticket_id, **how, expected=IfMatch(versions=(current,)))


REFUSED: list[tuple[dict[str, Any], Change, dict[str, str], type[BusbarError]]] = [
    ({}, commands.change_status, {"new_status": "Closed"}, ForbiddenTransition),
    ({"on_hold": True}, commands.change_status, {"new_status": "Assigned"}, RuleViolated),
    ({"status": "Cancelled"}, commands.change_status, {"new_status": "Assigned"}, ForbiddenTransition),
    ({"on_hold": True}, commands.hold, {"reason": "again"}, ForbiddenTransition),
    ({"status": "Closed"}, commands.hold, {"reason": "late"}, ForbiddenTransition),
    ({}, commands.resume, {}, ForbiddenTransition),
    ({"status": "Closed"}, commands.cancel, {"reason": "late"}, ForbiddenTransition),
    ({"status": "Cancelled"}, commands.cancel, {"reason": "again"}, ForbiddenTransition),
    ({"status": "In_Progress"}, commands.reopen, {"reason": "early"}, ForbiddenTransition),
    ({"status": "Cancelled"}, commands.reopen, {"reason": "terminal"}, ForbiddenTransition),
    ({"status": "Closed"}, commands.assign, {"assignee": "noor"}, ForbiddenTransition),
    ({"status": "Cancelled"}, commands.set_priority, {"priority": "P1"}, ForbiddenTransition),
    ({}, commands.assign, {"assignee": "nobody"}, NotFound),
    ({}, commands.assign, {"assignee": "gone"}, NotFound),
]


class TestRefusedChange:
    @pytest.mark.parametrize(("state", "change", "how", "error"), REFUSED)
    async def test_writes_nothing(
        self, desk: Desk, state: dict[str, Any], change: Change, how: dict[str, str], error: type[BusbarError]
    ) -> None:
        await add_user("noor")
        await add_user("gone", active=False)
        ticket_id = await desk.open(**state)
        async with desk.nothing_written():
            with pytest.raises(error) as refused:
                await change(desk.ctx, ticket_id, **how)
        assert type(refused.value) is error


class TestHold:
    async def test_moves_the_deadline_by_the_held_time_to_the_microsecond(self, desk: Desk) -> None:
        ticket_id = await desk.open(priority="P2")
        promised = (await desk.ticket(ticket_id))["sla_deadline"]
        assert promised == desk.clock.now + timedelta(hours=8)
        held_s = 0
        for at_work_s, on_hold_s in ((600, 5_025), (1, 1), (14_400, 259_200.25)):
            desk.clock.advance(seconds=at_work_s)
            await commands.hold(desk.ctx, ticket_id, reason="waits for a part")
            assert (await desk.ticket(ticket_id))["sla_deadline"] == promised, "the clock of the SLA stands still"
            desk.clock.advance(seconds=on_hold_s)
            await commands.resume(desk.ctx, ticket_id)
            promised += timedelta(seconds=on_hold_s)
            held_s += int(on_hold_s)
            ticket = await desk.ticket(ticket_id)
            assert (ticket["sla_deadline"], ticket["held_s"]) == (promised, held_s)
            assert (ticket["on_hold"], ticket["hold_since"]) == (False, None)

    async def test_that_begins_after_the_deadline_moves_nothing(self, desk: Desk) -> None:
        ticket_id = await desk.open(priority="P2")
        promised = (await desk.ticket(ticket_id))["sla_deadline"]
        desk.clock.advance(hours=9)
        await commands.hold(desk.ctx, ticket_id, reason="waits for a part")
        desk.clock.advance(hours=2)
        await commands.resume(desk.ctx, ticket_id)
        ticket = await desk.ticket(ticket_id)
        assert (ticket["sla_deadline"], ticket["held_s"]) == (promised, 7_200), "the promise was broken by then"

    async def test_does_not_shorten_the_deadline_when_the_clock_goes_back(self, desk: Desk) -> None:
        ticket_id = await desk.open()
        promised = (await desk.ticket(ticket_id))["sla_deadline"]
        await commands.hold(desk.ctx, ticket_id, reason="waits")
        desk.clock.advance(hours=-1)
        await commands.resume(desk.ctx, ticket_id)
        ticket = await desk.ticket(ticket_id)
        assert (ticket["sla_deadline"], ticket["held_s"]) == (promised, 0)

    async def test_ends_when_the_ticket_is_cancelled(self, desk: Desk) -> None:
        ticket_id = await desk.open(on_hold=True)
        promised = (await desk.ticket(ticket_id))["sla_deadline"]
        desk.clock.advance(hours=2)
        await commands.cancel(desk.ctx, ticket_id, reason="the line is gone")
        ticket = await desk.ticket(ticket_id)
        assert (ticket["status"], ticket["on_hold"], ticket["held_s"]) == ("Cancelled", False, 7_200)
        assert ticket["sla_deadline"] == promised + timedelta(hours=2)
        assert ticket["closed_at"] == desk.clock.now


class TestAssign:
    async def test_of_an_open_ticket_makes_it_assigned(self, desk: Desk) -> None:
        await add_user("noor")
        ticket_id = await desk.open()
        await commands.assign(desk.ctx, ticket_id, assignee="noor", comment="yours")
        ticket = await desk.ticket(ticket_id)
        assert (ticket["status"], ticket["assignee"]) == ("Assigned", "noor")

    async def test_to_somebody_of_another_site_is_refused(self, desk: Desk) -> None:
        await add_user("sol")
        await execute("update core.user_account set sites = '{south}' where username = 'sol'")
        ticket_id = await desk.open()
        with pytest.raises(NotFound, match="no active user sol who works for the site north"):
            await commands.assign(desk.ctx, ticket_id, assignee="sol")
        assert (await desk.ticket(ticket_id))["assignee"] is None

    async def test_of_one_in_progress_only_changes_the_hands(self, desk: Desk) -> None:
        await add_user("noor")
        ticket_id = await desk.open(status="In_Progress")
        assert (await desk.ticket(ticket_id))["assignee"] == "mia", "who moves a ticket to Assigned takes it"
        await commands.assign(desk.ctx, ticket_id, assignee="noor")
        ticket = await desk.ticket(ticket_id)
        assert (ticket["status"], ticket["assignee"]) == ("In_Progress", "noor")

    async def test_before_the_move_is_not_changed_by_it(self, desk: Desk) -> None:
        await add_user("noor")
        ticket_id = await desk.open()
        await execute("update core.ticket set assignee = 'noor' where ticket_id = $1", ticket_id)
        await commands.change_status(desk.ctx, ticket_id, new_status="Assigned")
        assert (await desk.ticket(ticket_id))["assignee"] == "noor"


class TestOtherVerbs:
    async def test_a_new_priority_keeps_the_promised_deadline(self, desk: Desk) -> None:
        ticket_id = await desk.open(priority="P4")
        promised = (await desk.ticket(ticket_id))["sla_deadline"]
        await commands.set_priority(desk.ctx, ticket_id, priority="P1")
        ticket = await desk.ticket(ticket_id)
        assert (ticket["priority"], ticket["sla_deadline"]) == ("P1", promised)

    async def test_reopening_takes_the_end_back_and_keeps_deadline_and_assignee(self, desk: Desk) -> None:
        ticket_id = await desk.open(status="Closed")
        closed = await desk.ticket(ticket_id)
        assert closed["closed_at"] == desk.clock.now
        desk.clock.advance(hours=5)
        await commands.reopen(desk.ctx, ticket_id, reason="it is back")
        ticket = await desk.ticket(ticket_id)
        assert (ticket["status"], ticket["closed_at"]) == ("In_Progress", None)
        assert (ticket["sla_deadline"], ticket["assignee"]) == (closed["sla_deadline"], closed["assignee"])

    @pytest.mark.parametrize("status", ["Open", "In_Progress", "Closed", "Cancelled"])
    async def test_a_note_changes_nothing_but_the_version(self, desk: Desk, status: str) -> None:
        ticket_id = await desk.open(status=status)
        before = await desk.ticket(ticket_id)
        desk.clock.advance(minutes=1)
        await commands.note(desk.ctx, ticket_id, comment="Crew 4 is on the way")
        after = await desk.ticket(ticket_id)
        changed = {name for name in after if after[name] != before[name]}
        assert changed == {"version", "updated_at"}
        assert (await desk.told(ticket_id))[-1].comment == "Crew 4 is on the way"

    async def test_the_actor_of_an_endpoint_leaves_its_origin_on_the_event(self, desk: Desk) -> None:
        ticket_id = await desk.open()
        remote: Context = msgspec.structs.replace(desk.ctx, origin="servicenow")
        await commands.note(remote, ticket_id, comment="from there")
        row = await fetchrow("select origin from core.event order by seq desc limit 1")
        assert row["origin"] == "servicenow"
