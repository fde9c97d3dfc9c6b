"""Reading tickets: one, lists, their audit trail. Rows are limited to the actor's sites and modules."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from busbar.auth.actor import Context
from busbar.db import fetch, fetchrow, fetchval
from busbar.errors import NotFound
from busbar.web.conditions import Where
from busbar.web.pagination import TOTAL_MAX, Page, PageRequest, SortColumn, count_sql, page_request


class TicketView(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket."""

    ticket_id: str
    module: str
    ticket_type: str
    title: str
    description: str
    priority: str
    status: str
    on_hold: bool
    site: str
    assignee: str | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    closed_at: datetime | None
    sla_deadline: datetime
    held_s: int
    """Seconds that the ticket has spent on hold; the deadline has moved by the working time among them."""
    sla_class: str
    """`standard`, or `storm` for an incident in a weather event."""
    response_deadline: datetime | None
    """By when somebody should have taken the ticket."""
    responded_at: datetime | None
    object_kind: str | None
    """What it is about, for example `incident`; with `object_id`, the id within its module."""
    object_id: str | None
    correlation_id: str
    version: int


class AuditEntryView(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a ticket's trail."""

    audit_id: int
    at: datetime
    user: str
    action: str
    previous_status: str | None
    new_status: str | None
    comment: str | None
    correlation_id: str


class TicketFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of tickets is narrowed to; None leaves it open."""

    modules: tuple[str, ...] | None = None
    statuses: tuple[str, ...] | None = None
    priorities: tuple[str, ...] | None = None
    assignee: str | None = None
    site: str | None = None
    text: str | None = None
    object_kind: str | None = None
    object_id: str | None = None
    correlation_id: str | None = None


SORT_COLUMNS = {
    "created_at": SortColumn(sql="created_at", type=datetime),
    "updated_at": SortColumn(sql="updated_at", type=datetime),
    "sla_deadline": SortColumn(sql="sla_deadline", type=datetime),
    "priority": SortColumn(sql="priority", type=str),
    "status": SortColumn(sql="status", type=str),
    "title": SortColumn(sql="title", type=str),
    "site": SortColumn(sql="site_id", type=str),
    "assignee": SortColumn(sql="assignee", type=str, nullable=True),
    "ticket_id": SortColumn(sql="ticket_id", type=str),
}

_COLUMNS = ", ".join("site_id as site" if name == "site" else name for name in TicketView.__struct_fields__)
_TEXT = "(words @@ plainto_tsquery('simple', ${n}) or ticket_id = upper(${n}))"
_SORTED_MAX = 1_000
_WALKED_MAX = 5_000
"""A search that finds more than the one looks at the newest so many tickets before it sorts all that match."""
_FLOOR_KEPT_S = 30.0
_floors: dict[tuple[Any, ...], float] = {}


async def get_ticket(ctx: Context, ticket_id: str) -> TicketView:
    """One ticket.

    Raises:
        NotFound: there is no such ticket, or the actor may not see it.
    """
    row = await fetchrow(f"select {_COLUMNS} from core.ticket where ticket_id = $1", ticket_id)
    if row is None or not ctx.actor.sees_site(row["site"]) or not ctx.actor.may(f"{row['module']}.read"):
        raise NotFound(f"There is no ticket {ticket_id}.")
    return TicketView(**row)


async def list_tickets(
    ctx: Context,
    wanted: TicketFilter,
    *,
    modules: Sequence[str],
    limit: int = 50,
    cursor: str | None = None,
    sort: str | None = None,
) -> Page[TicketView]:
    """A page of the tickets that the actor may see, newest first unless `sort` says otherwise.

    `modules` are those that exist; the list is limited to those that the actor may read.
    """
    asked = page_request(
        limit=limit, cursor=cursor, sort=sort, columns=SORT_COLUMNS, default="-created_at", key="ticket_id"
    )
    where, values = _conditions(ctx, wanted, modules)
    if not wanted.text:
        counted = await _count(where, values)
        rows = await _by_index(asked, where, values)
    else:
        words, values = _TEXT.format(n=len(values) + 1), [*values, wanted.text]
        counted = await _count(f"{where} and {words}", values)
        rows = await _by_words(asked, where, words, values, many=counted > _SORTED_MAX)
    return asked.page(rows, to_item=_ticket, counted=counted)


def _ticket(row: asyncpg.Record) -> TicketView:
    # By position, which takes two thirds of the time of a record's keywords; _COLUMNS has the order of the fields.
    return TicketView(**dict(zip(TicketView.__struct_fields__, row, strict=True)))


async def _by_index(asked: PageRequest, where: str, values: Sequence[Any]) -> list[asyncpg.Record]:
    after, after_values = asked.after(first_parameter=len(values) + 1)
    return await fetch(
        f"select {_COLUMNS} from core.ticket where {where} and {after} "
        f"order by {asked.order_by} limit {asked.fetch_count}",
        *values,
        *after_values,
    )


async def _by_words(
    asked: PageRequest, where: str, words: str, values: Sequence[Any], *, many: bool
) -> list[asyncpg.Record]:
    """A page of a search, in bounded time whether the words are rare or common, of old tickets or of new ones.

    Left alone, the planner guesses how rare a word is, and walks through a million tickets for one that it thinks
    common. When many match, the newest few thousand are looked at first: they nearly always hold a page. Otherwise all
    that match are found by the index of words and sorted; OFFSET 0 keeps the planner from anything else.
    """
    after, after_values = asked.after(first_parameter=len(values) + 1)
    by_time = [key.name for key in asked.order] == ["created_at", "ticket_id"]
    if many and by_time and asked.order[0].descending == asked.order[1].descending:
        rows = await fetch(
            f"select {_COLUMNS} from (select * from core.ticket where {where} and {after} "
            f"order by {asked.order_by} limit {_WALKED_MAX}) near where {words} "
            f"order by {asked.order_by} limit {asked.fetch_count}",
            *values,
            *after_values,
        )
        if len(rows) == asked.fetch_count:
            return rows
    return await fetch(
        f"select {_COLUMNS} from (select * from core.ticket where {where} and {words} and {after} offset 0) matching "
        f"order by {asked.order_by} limit {asked.fetch_count}",
        *values,
        *after_values,
    )


async def audit_of(ctx: Context, ticket_id: str) -> tuple[AuditEntryView, ...]:
    """The trail of a ticket, oldest first.

    Raises:
        NotFound: there is no such ticket, or the actor may not see it.
    """
    await get_ticket(ctx, ticket_id)
    rows = await fetch(
        "select audit_id, at, actor_name as user, action, previous_status, new_status, comment, correlation_id "
        "from core.audit where object_kind = 'ticket' and object_id = $1 order by audit_id",
        ticket_id,
    )
    return tuple(AuditEntryView(**row) for row in rows)


def _conditions(ctx: Context, wanted: TicketFilter, modules: Sequence[str]) -> tuple[str, list[Any]]:
    where = Where()
    readable = [module for module in modules if ctx.actor.may(f"{module}.read")]
    if wanted.modules is not None:
        readable = [module for module in readable if module in wanted.modules]
    if wanted.modules is not None or len(readable) < len(modules):
        where.add("module = any({})", readable)
    sites = ctx.actor.site_filter
    if wanted.site is not None:
        sites = [wanted.site] if ctx.actor.sees_site(wanted.site) else []
    if sites is not None:
        # One site as an equality lets the index give the order as well.
        where.add("site_id = {}" if len(sites) == 1 else "site_id = any({})", sites[0] if len(sites) == 1 else sites)
    if wanted.statuses is not None:
        one = len(wanted.statuses) == 1
        where.add("status = {}" if one else "status = any({})", wanted.statuses[0] if one else list(wanted.statuses))
    if wanted.priorities is not None:
        where.add("priority = any({})", list(wanted.priorities))
    for column in ("assignee", "object_kind", "object_id", "correlation_id"):
        where.add(column + " = {}", getattr(wanted, column))
    return where.sql, where.values


async def _count(where: str, values: Sequence[Any]) -> int:
    """The count up to the limit; that a list is beyond it is remembered for half a minute, for counting costs most."""
    key = (where, *(tuple(value) if isinstance(value, list) else value for value in values))
    now = time.monotonic()
    if _floors.get(key, 0.0) > now:
        return TOTAL_MAX + 1
    counted: int = await fetchval(count_sql(f"core.ticket where {where}"), *values)
    if counted > TOTAL_MAX:
        if len(_floors) > 1_000:
            _floors.clear()
        _floors[key] = now + _FLOOR_KEPT_S
    return counted
