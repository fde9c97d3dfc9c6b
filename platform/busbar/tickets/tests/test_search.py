"""Searching for words in tickets: rare and common ones, on every page, and beyond what `total` counts."""

from uuid import uuid4

import pytest

from busbar.auth.actor import Context, system_actor
from busbar.db import execute, fetch
from busbar.tickets.queries import TicketFilter, TicketView, list_tickets
from busbar.web.pagination import TOTAL_MAX, Page

MANY = TOTAL_MAX + 6_000
"""Of these a tenth, the oldest, tell of a flood and all but those of a storm."""

_INSERT = """
insert into core.ticket (ticket_id, module, ticket_type, title, description, priority, status, site_id, created_by,
    created_at, updated_at, sla_deadline, correlation_id)
select 'TKT-PM-20260101-' || lpad(n::text, 5, '0'), 'pm', 'Incident', 'Report ' || n,
    case when n <= $1 / 10 then 'Flood in the cellar' else 'Line down after a storm' end
        || case when n % 1000 = 7 then ', kingfisher' else '' end,
    'P3', 'Open', 'a', 'mia', at, at, at, $2
from (select n, timestamptz '2026-01-01' + n / 3 * interval '1 second' as at from generate_series(1, $1::int) n) s
"""


def ticket(number: int) -> str:
    return f"TKT-PM-20260101-{number:05}"


async def search(text: str, *, cursor: str | None = None, sort: str | None = None, limit: int = 50) -> Page[TicketView]:
    ctx = Context(actor=system_actor("test"), correlation_id=str(uuid4()))
    wanted = TicketFilter(text=text)
    return await list_tickets(ctx, wanted, modules=["pm"], limit=limit, cursor=cursor, sort=sort)


async def all_pages(text: str, *, sort: str | None = None) -> list[str]:
    found: list[str] = []
    page = await search(text, sort=sort, limit=200)
    while True:
        found += [item.ticket_id for item in page.items]
        if page.next is None:
            return found
        page = await search(text, cursor=page.next, sort=sort, limit=200)


@pytest.mark.usefixtures("database")
class TestSearch:
    async def test_a_rare_word_is_found_among_many_newest_first_and_counted(self) -> None:
        await execute(_INSERT, MANY, str(uuid4()))
        page = await search("kingfisher")
        assert [item.ticket_id for item in page.items] == [
            ticket(n) for n in range(MANY // 1000 * 1000 - 993, 0, -1000)
        ]
        assert (page.total, page.total_is_floor, page.next) == (len(page.items), False, None)

    async def test_a_word_of_thousands_is_on_its_pages_once_each_in_order(self) -> None:
        await execute(_INSERT, MANY, str(uuid4()))
        assert await all_pages("storm") == [ticket(n) for n in range(MANY, MANY // 10, -1)]
        assert (await search("STORM")).total_is_floor

    async def test_many_old_matches_behind_thousands_of_newer_tickets_are_found(self) -> None:
        await execute(_INSERT, MANY, str(uuid4()))
        assert (await search("report")).total_is_floor
        assert await all_pages("report flood", sort="created_at") == [ticket(n) for n in range(1, MANY // 10 + 1)]
        await execute("update core.ticket set title = 'Calm' where ticket_id > $1", ticket(TOTAL_MAX + 500))
        found = await search("report")
        assert [item.ticket_id for item in found.items] == [ticket(n) for n in range(10_500, 10_450, -1)]

    async def test_other_orders_hold_for_common_words_too(self) -> None:
        await execute(_INSERT, MANY, str(uuid4()))
        page = await search("line", sort="ticket_id")
        assert [item.ticket_id for item in page.items] == [ticket(n) for n in range(MANY // 10 + 1, MANY // 10 + 51)]

    async def test_a_ticket_is_found_by_its_id_in_any_case(self) -> None:
        await execute(_INSERT, 20, str(uuid4()))
        assert [item.ticket_id for item in (await search("tkt-pm-20260101-00013")).items] == [ticket(13)]

    async def test_words_follow_the_text(self) -> None:
        await execute(_INSERT, 20, str(uuid4()))
        await execute("update core.ticket set description = 'Otter' where ticket_id = $1", ticket(3))
        assert [item.ticket_id for item in (await search("otter")).items] == [ticket(3)]
        assert not await fetch("select 1 from core.ticket where ticket_id = $1 and words @@ 'cellar'", ticket(3))
