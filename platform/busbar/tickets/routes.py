"""The HTTP side of tickets."""

from collections.abc import Awaitable
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from litestar import Response, get, patch, post
from litestar.datastructures import State
from litestar.params import JSONBody, Parameter, QueryParameter

from busbar.auth.actor import Context
from busbar.auth.guards import RequestContext
from busbar.events.queries import EventView, events_of_subject
from busbar.tickets import commands, queries
from busbar.tickets.queries import AuditEntryView, TicketFilter, TicketView
from busbar.web.access import needs
from busbar.web.conditional import IfMatchHeader, parse_if_match, versioned
from busbar.web.pagination import CursorParameter, LimitParameter, Page, SearchParameter, SortParameter
from busbar.web.text import SINGLE_LINE, SLUG, Name, Text

_READ = needs("tickets.read")
_WRITE = needs("tickets.write")

TicketId = Annotated[str, Parameter(max_length=60, pattern=SINGLE_LINE, description="Such as TKT-PM-20261123-0001.")]
Status = Literal["Open", "Assigned", "In_Progress", "Closed", "Cancelled"]
Priority = Literal["P1", "P2", "P3", "P4"]
_SHORT = Parameter(max_length=120, pattern=SINGLE_LINE)


class StatusChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A move of a ticket, one step forward: Open → Assigned → In_Progress → Closed."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"new_status": "Assigned", "comment": "Crew 7 takes it"}

    new_status: Status
    comment: Text | None = None


class Assignment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom a ticket is given to."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"assignee": "maintenance.engineer", "comment": "Please go today"}

    assignee: Name
    """User name."""
    comment: Text | None = None


class Reason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why it is done."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"reason": "Waiting for a spare bushing"}

    reason: Text


class Note(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A comment."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"comment": "The customer called again"}

    comment: Text


class Remark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What there is to say about it."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"comment": "The bushing has arrived"}

    comment: Text | None = None


@get("/tickets", opt=_READ)
async def list_tickets(
    ctx: RequestContext,
    state: State,
    module: Annotated[list[str] | None, QueryParameter(name="module", max_items=20)] = None,
    status: Annotated[list[Status] | None, QueryParameter(name="status", max_items=5)] = None,
    priority: Annotated[list[Priority] | None, QueryParameter(name="priority", max_items=4)] = None,
    assignee: Annotated[str | None, _SHORT] = None,
    site: Annotated[str | None, QueryParameter(name="site", max_length=40, pattern=SLUG)] = None,
    text: SearchParameter = None,
    object_kind: Annotated[str | None, _SHORT] = None,
    object_id: Annotated[str | None, _SHORT] = None,
    correlation_id: Annotated[str | None, Parameter(max_length=128, pattern=SINGLE_LINE)] = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[TicketView]:
    """List tickets.

    Only those of the caller's sites, and of modules that the caller may read. `text` looks for words in title and
    description, or for a ticket id. Can be sorted by created_at, updated_at, sla_deadline, priority, status, title,
    site, assignee, ticket_id.
    """
    wanted = TicketFilter(
        modules=tuple(module) if module else None,
        statuses=tuple(status) if status else None,
        priorities=tuple(priority) if priority else None,
        assignee=assignee,
        site=site,
        text=text,
        object_kind=object_kind,
        object_id=object_id,
        correlation_id=correlation_id,
    )
    return await queries.list_tickets(ctx, wanted, modules=state.modules, limit=limit, cursor=cursor, sort=sort)


@get("/tickets/{ticket_id:str}", opt=_READ)
async def get_ticket(ctx: RequestContext, ticket_id: TicketId) -> Response[TicketView]:
    """Read one ticket; the ETag header names its version."""
    ticket = await queries.get_ticket(ctx, ticket_id)
    return versioned(ticket, ticket.version)


@get("/tickets/{ticket_id:str}/audit", opt=_READ)
async def get_audit(ctx: RequestContext, ticket_id: TicketId) -> tuple[AuditEntryView, ...]:
    """Read a ticket's trail: who changed what, when and why, oldest first."""
    return await queries.audit_of(ctx, ticket_id)


@get("/tickets/{ticket_id:str}/events", opt=_READ)
async def get_events(ctx: RequestContext, ticket_id: TicketId) -> tuple[EventView, ...]:
    """Read the events that tell of a ticket, oldest first."""
    await queries.get_ticket(ctx, ticket_id)
    return await events_of_subject(ctx, ticket_id)


@patch("/tickets/{ticket_id:str}/status", opt=_WRITE)
async def change_status(
    ctx: RequestContext, ticket_id: TicketId, data: JSONBody[StatusChange], if_match: IfMatchHeader = None
) -> Response[TicketView]:
    """Move a ticket one step: Open → Assigned → In_Progress → Closed. Anything else is refused with BUS_001."""
    expected = parse_if_match(if_match, required=False)
    return await _changed(
        ctx,
        ticket_id,
        commands.change_status(ctx, ticket_id, new_status=data.new_status, comment=data.comment, expected=expected),
    )


@post("/tickets/{ticket_id:str}/assign", opt=_WRITE, status_code=200)
async def assign(
    ctx: RequestContext, ticket_id: TicketId, data: JSONBody[Assignment], if_match: IfMatchHeader = None
) -> Response[TicketView]:
    """Give a ticket to somebody; an Open ticket becomes Assigned."""
    expected = parse_if_match(if_match, required=False)
    return await _changed(
        ctx,
        ticket_id,
        commands.assign(ctx, ticket_id, assignee=data.assignee, comment=data.comment, expected=expected),
    )


@post("/tickets/{ticket_id:str}/hold", opt=_WRITE, status_code=200)
async def hold(
    ctx: RequestContext, ticket_id: TicketId, data: JSONBody[Reason], if_match: IfMatchHeader = None
) -> Response[TicketView]:
    """Put a ticket on hold: its SLA clock stands still until it is resumed."""
    expected = parse_if_match(if_match, required=False)
    return await _changed(ctx, ticket_id, commands.hold(ctx, ticket_id, reason=data.reason, expected=expected))


@post("/tickets/{ticket_id:str}/resume", opt=_WRITE, status_code=200)
async def resume(
    ctx: RequestContext, ticket_id: TicketId, data: JSONBody[Remark], if_match: IfMatchHeader = None
) -> Response[TicketView]:
    """Take a ticket off hold; its deadline moves by the working time it was held."""
    expected = parse_if_match(if_match, required=False)
    return await _changed(ctx, ticket_id, commands.resume(ctx, ticket_id, comment=data.comment, expected=expected))


@post("/tickets/{ticket_id:str}/cancel", opt=_WRITE, status_code=200)
async def cancel(
    ctx: RequestContext, ticket_id: TicketId, data: JSONBody[Reason], if_match: IfMatchHeader = None
) -> Response[TicketView]:
    """End a ticket for good without its work having been done."""
    expected = parse_if_match(if_match, required=False)
    return await _changed(ctx, ticket_id, commands.cancel(ctx, ticket_id, reason=data.reason, expected=expected))


@post("/tickets/{ticket_id:str}/reopen", opt=_WRITE, status_code=200)
async def reopen(
    ctx: RequestContext, ticket_id: TicketId, data: JSONBody[Reason], if_match: IfMatchHeader = None
) -> Response[TicketView]:
    """Take a closed ticket back into work: Closed → In_Progress."""
    expected = parse_if_match(if_match, required=False)
    return await _changed(ctx, ticket_id, commands.reopen(ctx, ticket_id, reason=data.reason, expected=expected))


@post("/tickets/{ticket_id:str}/notes", opt=_WRITE, status_code=200)
async def add_note(
    ctx: RequestContext, ticket_id: TicketId, data: JSONBody[Note], if_match: IfMatchHeader = None
) -> Response[TicketView]:
    """Add a comment to a ticket's trail."""
    expected = parse_if_match(if_match, required=False)
    return await _changed(ctx, ticket_id, commands.note(ctx, ticket_id, comment=data.comment, expected=expected))


async def _changed(ctx: Context, ticket_id: str, command: Awaitable[int]) -> Response[TicketView]:
    await command
    ticket = await queries.get_ticket(ctx, ticket_id)
    return versioned(ticket, ticket.version)


ROUTES = (
    list_tickets,
    get_ticket,
    get_audit,
    get_events,
    change_status,
    assign,
    hold,
    resume,
    cancel,
    reopen,
    add_note,
)
