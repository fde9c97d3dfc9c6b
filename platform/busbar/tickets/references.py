"""What one module may know of another's ticket: that it exists, where, and what it is about."""

import msgspec

from busbar.auth.actor import Context
from busbar.db import fetchrow
from busbar.errors import NotFound


class TicketReference(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket as other modules refer to it; no more than that it is there."""

    ticket_id: str
    module: str
    ticket_type: str
    status: str
    site_id: str
    object_kind: str | None
    object_id: str | None
    correlation_id: str
    """Under which work by the clock goes on, such as a reminder."""


async def ticket_reference(ctx: Context, ticket_id: str) -> TicketReference:
    """The ticket of that id at the actor's sites, whatever its module: a finance officer may name a maintenance ticket.

    Raises:
        NotFound: there is no such ticket at the actor's sites.
    """
    row = await fetchrow(
        "select ticket_id, module, ticket_type, status, site_id, object_kind, object_id, correlation_id "
        "from core.ticket where ticket_id = $1",
        ticket_id,
    )
    if row is None or not ctx.actor.sees_site(row["site_id"]):
        raise NotFound(f"There is no ticket {ticket_id}.")
    return TicketReference(**row)
