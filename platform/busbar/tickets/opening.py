"""Opens tickets: one statement for all requests that wait, with the module's own rows in it (LESSONS D13, D15).

A module describes its part as an `Opening`. What a request asks for becomes one row of `asked`; the module's join and
condition make rows of `accepted` from them (a request that does not come out, say because its asset does not exist,
opens nothing); then ticket, audit entry, event and the module's own rows are written by the same statement. The counter
row of the module and day is taken once for a whole batch, which keeps the numbers without gaps. What is promised was
worked out beforehand (`sla_terms.py`); the statement only chooses, for it alone knows the site.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from busbar.auth.actor import Context
from busbar.db import fetch, in_transaction, on_commit
from busbar.db.group_write import GroupWriter
from busbar.events.outbox import wake_relay
from busbar.events.registry import REGISTRY
from busbar.kit.crash import crash_point
from busbar.kit.ids import uuid7
from busbar.tickets.sla_terms import TERMS

ACCEPTED_SITE = """(
    (a.actor_sites is null or {site} = any(string_to_array(a.actor_sites, '|')))
    and exists (select 1 from core.site_module m where m.site_id = {site} and m.module = '{module}' and m.enabled))"""
"""Condition of acceptance: the actor works for the site in the SQL expression `{site}`, and `{module}` is enabled."""


class NewTicket(msgspec.Struct, frozen=True, kw_only=True):
    """What a ticket is opened with. `site_id` may be left to what the module computes."""

    ticket_type: str
    title: str
    priority: str
    description: str = ""
    site_id: str = ""
    object_kind: str | None = None
    object_id: str | None = None
    comment: str | None = None


class OpenedTicket(msgspec.Struct, frozen=True, kw_only=True):
    """What was opened."""

    ticket_id: str
    site_id: str
    created_at: datetime
    sla_deadline: datetime


class _Request(msgspec.Struct, frozen=True):
    ctx: Context
    ticket: NewTicket
    facts: Mapping[str, Any]
    values: tuple[Any, ...]


# Columns of `asked`, in order: name, PostgreSQL type.
_ASKED: tuple[tuple[str, str], ...] = (
    ("event_id", "uuid"),
    ("ticket_type", "text"),
    ("title", "text"),
    ("description", "text"),
    ("priority", "text"),
    ("site_id", "text"),
    ("object_kind", "text"),
    ("object_id", "text"),
    ("comment", "text"),
    ("actor_id", "text"),
    ("actor_name", "text"),
    ("actor_sites", "text"),
    ("correlation_id", "text"),
    ("traceparent", "text"),
    ("origin", "text"),
    ("data", "jsonb"),
)

_STATEMENT = """
with asked as (
    select * from unnest({arrays}) with ordinality as a ({columns}, n)
), accepted as (
    select {accepted}, a.n from asked a {join} where {where}
), counter as (
    insert into core.ticket_counter as c (module, day, last)
    select $1, $3::date, count(*) from accepted having count(*) > 0
    on conflict (module, day) do update set last = c.last + excluded.last
    returning last
), opened as (
    select a.*, (a.promise ->> 'sla_deadline')::timestamptz as sla_deadline,
        'TKT-' || upper($1) || '-' || to_char($3::date, 'YYYYMMDD') || '-'
        || lpad(number::text, greatest(4, length(number::text)), '0') as ticket_id
    from (
        select accepted.*, counter.last - count(*) over () + row_number() over (order by accepted.n) as number,
            coalesce($6::jsonb -> (site_id || ' ' || priority || ' ' || ticket_type),
                $6::jsonb -> (site_id || ' ' || priority), $6::jsonb -> priority) as promise
        from accepted, counter
    ) a
), ticket as (
    insert into core.ticket (ticket_id, module, ticket_type, title, description, priority, status, site_id, created_by,
        created_at, updated_at, sla_deadline, object_kind, object_id, correlation_id, sla_class,
        weather_event_id, promise_before, calendar_version, response_target_s, resolution_target_s, warn_percent,
        response_deadline, alert_due_at)
    select ticket_id, $1, ticket_type, title, description, priority, 'Open', site_id, actor_name, $2, $2,
        sla_deadline, object_kind, object_id, correlation_id, promise ->> 'sla_class',
        (promise ->> 'weather_event_id')::uuid, promise -> 'promise_before', (promise ->> 'calendar_version')::int,
        (promise ->> 'response_target_s')::int, (promise ->> 'resolution_target_s')::int,
        (promise ->> 'warn_percent')::int, (promise ->> 'response_deadline')::timestamptz,
        (promise ->> 'alert_due_at')::timestamptz
    from opened
), trail as (
    insert into core.audit (at, actor_id, actor_name, action, object_kind, object_id, site_id, new_status, comment,
        correlation_id)
    select $2, actor_id, actor_name, 'ticket.open', 'ticket', ticket_id, site_id, 'Open', comment, correlation_id
    from opened
), told as (
    insert into core.event (event_id, event_type, module, site_id, subject, time, data, schema_version, correlation_id,
        traceparent, actor_id, origin)
    select event_id, $4, $1, site_id, ticket_id, $2,
        data || jsonb_build_object('ticket_id', ticket_id, 'site', site_id, 'sla_deadline', promise -> 'sla_deadline'),
        $5, correlation_id, traceparent, actor_id, origin
    from opened order by n
){own}
select n, ticket_id, site_id, sla_deadline from opened
"""


class Opening:
    """How a module opens its tickets.

    `columns` are the module's own columns of `asked` (name to PostgreSQL type, no arrays). `join` and `where` decide
    which requests are accepted, over `asked a`; by default those whose site is the actor's and has the module enabled.
    `computed` gives columns of `accepted` by SQL expression, new ones or in place of what was asked, but for the
    priority, whose deadlines are worked out beforehand. `own` are further CTEs over `opened`, as (name, SQL) pairs.
    `event_type` is told for each ticket; its Struct is a `TicketCreated` with the module's facts beside it.
    """

    def __init__(
        self,
        *,
        module: str,
        event_type: str,
        columns: Mapping[str, str],
        computed: Mapping[str, str] | None = None,
        join: str = "",
        where: str | None = None,
        own: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._module = module
        self._event_type = event_type
        names = [*(name for name, _ in _ASKED), *columns]
        types = [*(kind for _, kind in _ASKED), *columns.values()]
        expressions = {name: f"a.{name}" for name in names} | dict(computed or {})
        site = ACCEPTED_SITE.format(site=expressions["site_id"], module=module)
        self._statement = _STATEMENT.format(
            arrays=", ".join(f"${n}::{kind}[]" for n, kind in enumerate(types, start=7)),
            columns=", ".join(names),
            accepted=", ".join(f"{expression} as {name}" for name, expression in expressions.items()),
            join=join,
            where=where or site,
            own="".join(f", {name} as (\n    {sql}\n)" for name, sql in own),
        )
        self._width = len(columns)
        self._writer: GroupWriter[_Request, OpenedTicket | None] = GroupWriter(self._write, name=f"open-{module}")

    async def open(
        self, ctx: Context, ticket: NewTicket, *, facts: Mapping[str, Any], values: Sequence[Any] = ()
    ) -> OpenedTicket | None:
        """Open one ticket, sharing a statement with others that wait; inside a transaction, as part of it.

        `facts` are the module's fields of the event; `values` those of its own columns, in their order. Returns None
        when the request was not accepted.

        Raises:
            Unavailable: too many writes wait, or the database is not there.
        """
        if len(values) != self._width:
            raise TypeError(f"{self._width} values expected, {len(values)} given")
        request = _Request(ctx, ticket, facts, tuple(values))
        if in_transaction():
            (opened,) = await self._write([request])
            return opened
        crash_point("open_before_commit")
        opened = await self._writer.submit(request)
        crash_point("open_after_commit")
        return opened

    async def _write(self, requests: Sequence[_Request]) -> list[OpenedTicket | None]:
        event_type = REGISTRY.get(self._event_type)
        now = requests[0].ctx.clock()
        rows = [_row(request, now) for request in requests]
        columns = [list(column) for column in zip(*rows, strict=True)]
        written = await fetch(
            self._statement,
            self._module,
            now,
            now.date(),
            self._event_type,
            event_type.version,
            TERMS.for_opening(now, self._module, {request.ticket.priority for request in requests}),
            *columns,
        )
        on_commit(wake_relay)
        opened: list[OpenedTicket | None] = [None] * len(requests)
        for row in written:
            opened[row["n"] - 1] = OpenedTicket(
                ticket_id=row["ticket_id"], site_id=row["site_id"], created_at=now, sla_deadline=row["sla_deadline"]
            )
        return opened


def _row(request: _Request, now: datetime) -> tuple[Any, ...]:
    ctx, ticket = request.ctx, request.ticket
    facts = {
        **request.facts,
        "ticket_type": ticket.ticket_type,
        "title": ticket.title,
        "description": ticket.description,
        "priority": ticket.priority,
        "status": "Open",
        "created_at": now,
        "created_by": ctx.actor.username,
    }
    sites = ctx.actor.site_filter
    event_id: UUID = uuid7()
    return (
        event_id,
        ticket.ticket_type,
        ticket.title,
        ticket.description,
        ticket.priority,
        ticket.site_id,
        ticket.object_kind,
        ticket.object_id,
        ticket.comment,
        ctx.actor.user_id,
        ctx.actor.username,
        None if sites is None else "|".join(sites),
        ctx.correlation_id,
        ctx.traceparent,
        ctx.origin,
        msgspec.json.encode(facts).decode(),
        *request.values,
    )
