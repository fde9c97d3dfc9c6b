"""A module of the tests' own, `tst`, that opens tickets; a clock that is set by hand; people at two sites."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from busbar.auth.actor import Context
from busbar.db import execute, fetch, fetchrow, fetchval
from busbar.events.registry import EventType
from busbar.testing.plugins import add_site, context_of
from busbar.tickets import commands
from busbar.tickets.events import SlaAlert, TicketCreated, TicketUpdated
from busbar.tickets.opening import NewTicket, Opening

OPENED = EventType(name="TST_TICKET_CREATED", module="tst", data=TicketCreated)
UPDATED = EventType(name="TST_TICKET_UPDATED", module="tst", data=TicketUpdated)
START = datetime(2026, 11, 23, 8, 30, 15, 250_000, tzinfo=UTC)
WAYS = {
    "Open": (),
    "Assigned": ("Assigned",),
    "In_Progress": ("Assigned", "In_Progress"),
    "Closed": ("Assigned", "In_Progress", "Closed"),
    "Cancelled": (),
}
"""The moves that lead to each status; Cancelled has a command of its own."""


class HandClock:
    """Shows the moment that it is set to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        """Go on by so many `hours`, `minutes`, `seconds`; back, if they are negative."""
        self.now += timedelta(**by)


class Desk:
    """Opens tickets of the module at the site `north`, and reads what became of them."""

    def __init__(self, *more_sites: str) -> None:
        self.clock = HandClock()
        self.ctx = context_of(
            "mia", permissions=("tst.read", "tst.write"), sites=("north", *more_sites), clock=self.clock
        )
        self.opening = Opening(module="tst", event_type=OPENED.name, columns={})

    def context(
        self, username: str, *, permissions: Sequence[str] = ("tst.read", "tst.write"), site: str = "north"
    ) -> Context:
        """Somebody who works at `site`."""
        return context_of(username, permissions=permissions, sites=(site,), clock=self.clock)

    async def open(
        self,
        *,
        priority: str = "P3",
        status: str = "Open",
        on_hold: bool = False,
        ticket_type: str = "Maintenance",
        site: str = "north",
    ) -> str:
        """A ticket in this state, which came about by the commands; the clock goes on by a minute with each."""
        ticket = NewTicket(ticket_type=ticket_type, title="Look at it", priority=priority, site_id=site)
        opened = await self.opening.open(self.ctx, ticket, facts={})
        assert opened is not None, f"the site {site} has the module"
        for step in WAYS[status]:
            self.clock.advance(minutes=1)
            await commands.change_status(self.ctx, opened.ticket_id, new_status=step)
        if status == "Cancelled":
            await commands.cancel(self.ctx, opened.ticket_id, reason="not needed")
        if on_hold:
            await commands.hold(self.ctx, opened.ticket_id, reason="waits for a part")
        return opened.ticket_id

    async def ticket(self, ticket_id: str) -> dict[str, Any]:
        """The row."""
        row = await fetchrow("select * from core.ticket where ticket_id = $1", ticket_id)
        assert row is not None, ticket_id
        return dict(row)

    async def trail(self, ticket_id: str) -> list[tuple[str, str | None, str]]:
        """Action, previous and new status of each entry."""
        rows = await fetch(
            "select action, previous_status, new_status from core.audit where object_id = $1 order by audit_id",
            ticket_id,
        )
        return [tuple(row) for row in rows]

    async def alerts(self, ticket_id: str) -> list[tuple[str, str, int]]:
        """Which alerts were told: warning or breach, of which target, in which round."""
        rows = await fetch(
            "select event_type, data from core.event where subject = $1 and event_type like '%SLA%' order by seq",
            ticket_id,
        )
        told = [(row["event_type"], msgspec.json.decode(row["data"], type=SlaAlert)) for row in rows]
        return [(name.rpartition("_")[2], alert.target, alert.round) for name, alert in told]

    async def told(self, ticket_id: str) -> list[TicketUpdated]:
        """What the events after the first say."""
        rows = await fetch(
            "select data from core.event where subject = $1 and event_type = $2 order by seq", ticket_id, UPDATED.name
        )
        return [msgspec.json.decode(row["data"], type=TicketUpdated) for row in rows]

    @asynccontextmanager
    async def nothing_written(self) -> AsyncIterator[None]:
        """The block changes no ticket and adds neither entry nor event."""
        before = await self._everything()
        yield
        assert await self._everything() == before

    async def _everything(self) -> list[Any]:
        tickets = await fetch("select * from core.ticket order by ticket_id")
        counts = [
            await fetchval(f"select count(*) from core.{table}") for table in ("audit", "event", "ticket_counter")
        ]
        return [*map(dict, tickets), counts]


async def make_desk() -> Desk:
    """The sites `north` and `south` with the module, `bare` without, and a desk at the first."""
    await add_site("north", "tst")
    await add_site("south", "tst")
    await add_site("bare")
    return Desk()


async def add_user(username: str, *, active: bool = True) -> None:
    """Somebody to whom tickets can be given."""
    await execute(
        "insert into core.user_account (user_id, username, display_name, password_hash, roles, sites, active, "
        "sessions_valid_from, created_at) values (gen_random_uuid(), $1, $1, '', '{}', '{north}', $2, now(), now()) "
        "on conflict do nothing",
        username,
        active,
    )
