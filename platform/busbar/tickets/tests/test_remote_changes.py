"""A remote system's changes: walked step by step where its life cycle skips states of ours, whole or not at all."""

import itertools
from typing import Any

import pytest

from busbar.errors import ForbiddenTransition, NotFound
from busbar.tickets import commands
from busbar.tickets.lifecycle import STATUSES
from busbar.tickets.tests.desk import WAYS, Desk

STATES = [*((status, False) for status in STATUSES), ("Open", True), ("Assigned", True), ("In_Progress", True)]
ORDER = ("Open", "Assigned", "In_Progress", "Closed")


def expected(status: str, on_hold: bool, target: str) -> list[str] | None:
    """The actions that lead there, or None when there is no way (SPEC R1.5)."""
    if target == status:
        return ["resume"] if on_hold else []
    if target == "Cancelled":
        return None if status == "Closed" else ["cancel"]
    if (status, target) == ("Closed", "In_Progress"):
        return ["reopen"]
    if status == "Cancelled" or ORDER.index(target) < ORDER.index(status):
        return None
    return [*(["resume"] if on_hold else []), *["move"] * (ORDER.index(target) - ORDER.index(status))]


class TestAdvanceTo:
    @pytest.mark.parametrize(("state", "target"), list(itertools.product(STATES, STATUSES)), ids=str)
    async def test_walks_every_way_that_there_is(self, desk: Desk, state: tuple[str, bool], target: str) -> None:
        status, on_hold = state
        ticket_id = await desk.open(status=status, on_hold=on_hold)
        before, entries, told = await desk.ticket(ticket_id), await desk.trail(ticket_id), await desk.told(ticket_id)
        actions = expected(status, on_hold, target)
        if actions is None:
            async with desk.nothing_written():
                with pytest.raises(ForbiddenTransition):
                    await commands.advance_to(desk.ctx, ticket_id, target=target)
            return
        assert await commands.advance_to(desk.ctx, ticket_id, target=target) == len(actions)
        after = await desk.ticket(ticket_id)
        assert (after["status"], after["on_hold"]) == (target, False)
        assert after["version"] == before["version"] + len(actions)
        new = (await desk.trail(ticket_id))[len(entries) :]
        assert [action for action, _, _ in new] == [f"ticket.{action}" for action in actions]
        if actions and actions[-1] == "move":
            assert tuple(to for action, _, to in new if action == "ticket.move") == WAYS[target][ORDER.index(status) :]
        events = (await desk.told(ticket_id))[len(told) :]
        assert [(event.action, event.status) for event in events] == [
            (action.removeprefix("ticket."), to) for action, _, to in new
        ]

    async def test_gives_every_step_the_comment(self, desk: Desk) -> None:
        ticket_id = await desk.open()
        await commands.advance_to(desk.ctx, ticket_id, target="Closed", comment="Fuse replaced")
        assert [event.comment for event in await desk.told(ticket_id)] == ["Fuse replaced"] * 3

    @pytest.mark.parametrize(
        ("status", "target", "reason"),
        [
            ("Open", "Cancelled", "cancelled by the remote system"),
            ("Closed", "In_Progress", "reopened by the remote system"),
        ],
    )
    async def test_gives_a_reason_where_one_is_needed_and_the_remote_says_none(
        self, desk: Desk, status: str, target: str, reason: str
    ) -> None:
        ticket_id = await desk.open(status=status)
        await commands.advance_to(desk.ctx, ticket_id, target=target)
        assert (await desk.told(ticket_id))[-1].comment == reason

    async def test_moves_the_deadline_of_a_held_ticket_by_the_hold(self, desk: Desk) -> None:
        ticket_id = await desk.open(status="In_Progress", on_hold=True)
        promised = (await desk.ticket(ticket_id))["sla_deadline"]
        desk.clock.advance(minutes=90)
        await commands.advance_to(desk.ctx, ticket_id, target="Closed")
        ticket = await desk.ticket(ticket_id)
        assert (ticket["sla_deadline"] - promised).total_seconds() == ticket["held_s"] == 5_400


class TestApplyRemoteChange:
    @pytest.mark.parametrize(
        ("change", "actions"),
        [
            ({"status": "In_Progress", "comment": "on it"}, ["move", "move"]),
            ({"status": "In_Progress", "comment": None}, ["move", "move"]),
            ({"status": "Open", "comment": "still there?"}, ["note"]),
            ({"status": None, "comment": "a word"}, ["note"]),
            ({"status": "Open", "comment": None}, []),
            ({"status": None, "comment": None}, []),
        ],
        ids=str,
    )
    async def test_is_a_walk_or_a_note_or_nothing(self, desk: Desk, change: dict[str, Any], actions: list[str]) -> None:
        ticket_id = await desk.open()
        assert await commands.apply_remote_change(desk.ctx, ticket_id, **change) == len(actions)
        told = await desk.told(ticket_id)
        assert [event.action for event in told] == actions
        assert {event.comment for event in told} <= {change["comment"]}

    async def test_that_cannot_be_reached_leaves_not_even_its_comment(self, desk: Desk) -> None:
        ticket_id = await desk.open(status="Closed")
        async with desk.nothing_written():
            with pytest.raises(ForbiddenTransition, match="Closed cannot come to Assigned"):
                await commands.apply_remote_change(desk.ctx, ticket_id, status="Assigned", comment="back to the queue")

    async def test_of_an_endpoint_of_another_site_is_refused(self, desk: Desk) -> None:
        ticket_id = await desk.open()
        async with desk.nothing_written():
            for change in ({"status": "Closed", "comment": "x"}, {"status": None, "comment": "x"}):
                with pytest.raises(NotFound):
                    await commands.apply_remote_change(desk.context("remote", site="south"), ticket_id, **change)
