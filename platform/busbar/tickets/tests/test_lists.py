"""Lists of tickets: every filter, every order, pages that hold every row once while others write, honest totals."""

import itertools
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from busbar.auth.actor import Context, system_actor
from busbar.db import execute, fetch
from busbar.errors import BadFormat, InvalidPayload
from busbar.testing.database import TestServer, fresh_database
from busbar.testing.plugins import context_of
from busbar.tickets.queries import SORT_COLUMNS, TicketFilter, TicketView, list_tickets
from busbar.web.pagination import TOTAL_MAX, Page

MODULES = ("fi", "mm", "pm")
COUNT = 120

_INSERT = """
insert into core.ticket (ticket_id, module, ticket_type, title, description, priority, status, site_id, assignee,
    created_by, created_at, updated_at, sla_deadline, object_kind, object_id, correlation_id)
select 'TKT-' || upper(module) || '-20260101-' || lpad(n::text, 4, '0'), module, 'Maintenance',
    (array['Pump hums', 'Transformer hums', 'Fence open'])[n % 3 + 1],
    case when n % 7 = 0 then 'Neighbours call about the Umspannwerk Süd' else '' end,
    'P' || n % 4 + 1, (array['Open', 'Assigned', 'In_Progress', 'Closed', 'Cancelled'])[n % 5 + 1],
    (array['north', 'south'])[n % 2 + 1], (array['mia', 'noor', null])[n % 3 + 1], 'mia',
    -- In threes at the same moment, so that only the id tells them apart.
    timestamptz '2026-01-01' + n / 3 * interval '1 min', timestamptz '2026-02-01' - n * interval '1 s',
    timestamptz '2026-01-02' + n % 10 * interval '1 h', (array['order', 'incident'])[n % 2 + 1], 'X-' || n % 11,
    'c-' || n % 6
from (select n, (array['fi', 'mm', 'pm'])[n % 3 + 1] as module from generate_series($1::int, $2::int) n) numbered
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def tickets(postgres: TestServer) -> AsyncIterator[None]:
    """Many tickets, in every state, of three modules at two sites."""
    async with fresh_database(postgres):
        await execute(_INSERT, 1, COUNT)
        yield


EVERYBODY = Context(actor=system_actor("test"), correlation_id=str(uuid4()))


async def listed(ctx: Context = EVERYBODY, *, limit: int = 200, **wanted: Any) -> Page[TicketView]:
    cursor, sort = wanted.pop("cursor", None), wanted.pop("sort", None)
    return await list_tickets(ctx, TicketFilter(**wanted), modules=MODULES, limit=limit, cursor=cursor, sort=sort)


async def every_ticket() -> list[TicketView]:
    return list((await listed()).items)


FILTERS: list[tuple[dict[str, Any], Callable[[TicketView], bool]]] = [
    ({}, lambda t: True),
    ({"modules": ("pm",)}, lambda t: t.module == "pm"),
    ({"modules": ("fi", "mm")}, lambda t: t.module in ("fi", "mm")),
    ({"modules": ("nope",)}, lambda t: False),
    ({"statuses": ("Open",)}, lambda t: t.status == "Open"),
    ({"statuses": ("Closed", "Cancelled")}, lambda t: t.status in ("Closed", "Cancelled")),
    ({"priorities": ("P1",)}, lambda t: t.priority == "P1"),
    ({"priorities": ("P2", "P4")}, lambda t: t.priority in ("P2", "P4")),
    ({"assignee": "noor"}, lambda t: t.assignee == "noor"),
    ({"site": "south"}, lambda t: t.site == "south"),
    ({"object_kind": "incident"}, lambda t: t.object_kind == "incident"),
    ({"object_kind": "order", "object_id": "X-3"}, lambda t: (t.object_kind, t.object_id) == ("order", "X-3")),
    ({"correlation_id": "c-5"}, lambda t: t.correlation_id == "c-5"),
    ({"text": "hums"}, lambda t: "hums" in t.title),
    ({"text": "PUMP"}, lambda t: "Pump" in t.title),
    ({"text": "hums pump"}, lambda t: t.title == "Pump hums"),
    ({"text": "süd"}, lambda t: "Süd" in t.description),
    ({"text": "fence neighbours"}, lambda t: "Fence" in t.title and "Neighbours" in t.description),
    ({"text": "hum"}, lambda t: False),
    ({"text": "' or 1=1 --"}, lambda t: False),
    ({"text": "tkt-pm-20260101-0005"}, lambda t: t.ticket_id == "TKT-PM-20260101-0005"),
    (
        {"modules": ("pm",), "statuses": ("Open", "Assigned"), "priorities": ("P1", "P2"), "site": "north"},
        lambda t: t.module == "pm" and t.status in ("Open", "Assigned") and t.priority in ("P1", "P2")
        and t.site == "north",
    ),
    ({"text": "hums", "statuses": ("Open",), "site": "south"},
     lambda t: "hums" in t.title and t.status == "Open" and t.site == "south"),
]  # fmt: skip


class TestFilters:
    @pytest.mark.parametrize(("wanted", "fits"), FILTERS, ids=[str(each) for each, _ in FILTERS])
    async def test_narrow_the_list_to_exactly_what_fits(
        self, wanted: dict[str, Any], fits: Callable[[TicketView], bool]
    ) -> None:
        should = [ticket for ticket in await every_ticket() if fits(ticket)]
        page = await listed(**wanted)
        assert list(page.items) == should
        assert (page.total, page.total_is_floor, page.next) == (len(should), False, None)

    def test_of_every_kind_are_tried(self) -> None:
        assert {name for wanted, _ in FILTERS for name in wanted} == set(TicketFilter.__struct_fields__)


class TestWhoLooks:
    @pytest.mark.parametrize(
        ("permissions", "sites", "fits"),
        [
            (["pm.read"], ["*"], lambda t: t.module == "pm"),
            (["pm.read", "fi.read"], ["north"], lambda t: t.module in ("pm", "fi") and t.site == "north"),
            (["pm.read", "mm.read", "fi.read"], ["north", "south"], lambda t: True),
            (["tickets.read"], ["*"], lambda t: False),
            (["pm.read"], [], lambda t: False),
        ],
        ids=["one module", "two modules at one site", "all", "no module", "no site"],
    )
    async def test_sees_the_tickets_of_the_own_modules_and_sites_only(
        self, permissions: list[str], sites: list[str], fits: Callable[[TicketView], bool]
    ) -> None:
        ctx = context_of("mia", permissions=permissions, sites=sites)
        should = [ticket for ticket in await every_ticket() if fits(ticket)]
        page = await listed(ctx)
        assert list(page.items) == should
        assert page.total == len(should)

    @pytest.mark.parametrize("wanted", [{"site": "south"}, {"modules": ("fi",)}, {"text": "TKT-FI-20260101-0003"}])
    async def test_gets_nothing_by_asking_for_others(self, wanted: dict[str, Any]) -> None:
        ctx = context_of("mia", permissions=["pm.read"], sites=["north"])
        page = await listed(ctx, **wanted)
        assert (page.items, page.total) == ((), 0)


def sort_key(name: str) -> Callable[[TicketView], Any]:
    """What Python sorts by, with what is missing last as in PostgreSQL."""
    return lambda ticket: (getattr(ticket, name) is None, getattr(ticket, name) or "")


class TestOrder:
    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("name", SORT_COLUMNS)
    async def test_by_each_column_holds_over_all_pages(self, name: str, descending: bool) -> None:
        tickets = sorted(await every_ticket(), key=sort_key("ticket_id"), reverse=descending)
        should = sorted(tickets, key=sort_key(name), reverse=descending)
        found = [ticket async for ticket in walk(sort=f"-{name}" if descending else name, limit=17)]
        assert [t.ticket_id for t in found] == [t.ticket_id for t in should]

    async def test_by_several_columns(self) -> None:
        should = sorted(await every_ticket(), key=sort_key("ticket_id"))
        should.sort(key=sort_key("created_at"), reverse=True)
        should.sort(key=sort_key("priority"))
        found = [ticket async for ticket in walk(sort="priority,-created_at,ticket_id", limit=11)]
        assert [t.ticket_id for t in found] == [t.ticket_id for t in should]

    async def test_is_newest_first_unless_asked_otherwise(self) -> None:
        should = sorted(await every_ticket(), key=lambda t: (t.created_at, t.ticket_id), reverse=True)
        assert [t.ticket_id async for t in walk(limit=50)] == [t.ticket_id for t in should]

    @pytest.mark.parametrize("sort", ["site_id", "version", "title,title", "created_at;drop", "a,b,c,d", "-"])
    async def test_by_anything_else_is_refused(self, sort: str) -> None:
        with pytest.raises(InvalidPayload) as refused:
            await listed(sort=sort)
        assert refused.value.errors[0].field == "sort"


async def walk(*, limit: int, between: Callable[[], Any] | None = None, **wanted: Any) -> AsyncIterator[TicketView]:
    """Every ticket of every page; `between` is awaited after each page."""
    cursor = None
    while True:
        page = await listed(limit=limit, cursor=cursor, **wanted)
        assert len(page.items) <= limit
        for item in page.items:
            yield item
        if (cursor := page.next) is None:
            return
        if between is not None:
            await between()


class TestPages:
    @pytest.mark.parametrize("sort", [None, "created_at", "-priority", "assignee", "-assignee", "title", "ticket_id"])
    async def test_hold_every_ticket_once_while_others_are_opened(self, sort: str | None) -> None:
        numbers = itertools.count(COUNT + 1)
        there_before = {ticket.ticket_id for ticket in await every_ticket()}

        async def open_another() -> None:
            # With every fourth at the very moment of tickets that are there, and the others newer than all.
            n = next(numbers)
            await execute(_INSERT, n, n)
            if n % 4 == 0:
                await execute(
                    "update core.ticket set created_at = $1 where ticket_id like '%-' || lpad($2::text, 4, '0')",
                    datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n % 40),
                    str(n),
                )

        try:
            found = [t.ticket_id async for t in walk(sort=sort, limit=9, between=open_another)]
            opened = next(numbers) - COUNT - 1
            assert opened >= COUNT // 9, "something was opened after each page"
            assert len(found) == len(set(found)), "none comes twice"
            assert there_before <= set(found), "none that was there is missed"
            assert (await listed(sort=sort, limit=9)).total == COUNT + opened
        finally:
            await execute("delete from core.ticket where right(ticket_id, 4)::int > $1", COUNT)

    async def test_hold_every_ticket_once_while_others_change(self) -> None:
        closing = iter(await every_ticket())

        async def close_another() -> None:
            await execute("update core.ticket set status = 'Closed' where ticket_id = $1", next(closing).ticket_id)

        states = await fetch("select ticket_id, status from core.ticket")
        try:
            found = [t.ticket_id async for t in walk(sort="created_at", limit=9, between=close_another)]
            assert sorted(found) == sorted(row["ticket_id"] for row in states)
        finally:
            await execute(
                "update core.ticket t set status = s.status from unnest($1::text[], $2::text[]) s (ticket_id, status) "
                "where s.ticket_id = t.ticket_id",
                [row["ticket_id"] for row in states],
                [row["status"] for row in states],
            )

    @pytest.mark.parametrize("other", ["created_at", "-updated_at", "-created_at,priority", "ticket_id"])
    async def test_of_one_order_do_not_go_on_in_another(self, other: str) -> None:
        page = await listed(limit=5)
        assert page.next is not None
        with pytest.raises(BadFormat) as refused:
            await listed(limit=5, cursor=page.next, sort=other)
        assert refused.value.errors[0].field == "cursor"

    @pytest.mark.parametrize("cursor", ["x", "bnVsbA", "W10"])
    async def test_do_not_go_on_from_a_made_up_cursor(self, cursor: str) -> None:
        with pytest.raises(BadFormat):
            await listed(cursor=cursor)

    async def test_show_no_more_to_whoever_takes_anothers_cursor(self) -> None:
        page = await listed(limit=5)
        ctx = context_of("mia", permissions=["pm.read"], sites=["north"])
        assert {(t.module, t.site) for t in (await listed(ctx, cursor=page.next)).items} == {("pm", "north")}


_CROWD = """
insert into core.ticket (ticket_id, module, ticket_type, title, priority, status, site_id, assignee, created_by,
    created_at, updated_at, sla_deadline, correlation_id)
select 'TKT-PM-20260202-' || lpad(n::text, 5, '0'), 'pm', 'Maintenance', 'Again', 'P4', 'Open', 'north', 'crowd', 'mia',
    now(), now(), now(), 'c' from generate_series($1::int, $2::int) n
"""


class TestTotal:
    async def test_is_exact_up_to_the_limit_and_then_a_floor(self) -> None:
        try:
            await execute(_CROWD, 1, TOTAL_MAX)
            page = await listed(assignee="crowd", limit=1)
            assert (page.total, page.total_is_floor) == (TOTAL_MAX, False)
            await execute(_CROWD, TOTAL_MAX + 1, TOTAL_MAX + 1)
            page = await listed(assignee="crowd", limit=1)
            assert (page.total, page.total_is_floor) == (TOTAL_MAX, True)
        finally:
            await execute("delete from core.ticket where assignee = 'crowd'")
