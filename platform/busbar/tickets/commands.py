"""Everything that changes a ticket after it was opened: one transaction with its audit entry and its event."""

from typing import Any

from busbar.auth.actor import Context
from busbar.auth.people import works_at
from busbar.db import transaction
from busbar.errors import ForbiddenTransition, NotFound
from busbar.tickets import lifecycle
from busbar.tickets.changing import lock_ticket, write_ticket
from busbar.tickets.promises import off_hold, promised_priority
from busbar.web.conditional import ANY_VERSION, IfMatch


async def change_status(
    ctx: Context, ticket_id: str, *, new_status: str, comment: str | None = None, expected: IfMatch = ANY_VERSION
) -> int:
    """Move a ticket one step forward: Open → Assigned → In_Progress → Closed; returns its new version.

    `expected` is the version that the caller saw. A ticket that becomes Assigned and has no assignee is
    given to the actor.

    Raises:
        NotFound: there is no such ticket, or the actor may not see it.
        StaleVersion: somebody else changed it meanwhile.
        ForbiddenTransition: the life cycle does not allow the move; nothing was written.
        RuleViolated: the ticket is on hold.
    """
    async with transaction():
        ticket = await lock_ticket(ctx, ticket_id, expected=expected)
        lifecycle.check_move(ticket["status"], new_status, on_hold=ticket["on_hold"])
        changes: dict[str, Any] = {"status": new_status}
        if new_status == lifecycle.ASSIGNED and ticket["assignee"] is None:
            changes["assignee"] = ctx.actor.username
        if new_status == lifecycle.CLOSED:
            changes["closed_at"] = ctx.clock()
        return await write_ticket(ctx, ticket, action="move", comment=comment, **changes)


async def advance_to(ctx: Context, ticket_id: str, *, target: str, comment: str | None = None) -> int:
    """Walk a ticket forward to `target`, step by step, each with its audit entry and event; returns how many steps.

    For remote systems, whose life cycles skip states of ours. A ticket on hold is resumed first; a target that is
    Cancelled cancels, and one that lies behind a closed ticket reopens it.

    Raises:
        NotFound: there is no such ticket.
        ForbiddenTransition: the target cannot be reached.
    """
    async with transaction():
        ticket = await lock_ticket(ctx, ticket_id, expected=ANY_VERSION)
        status = ticket["status"]
        if target == lifecycle.CANCELLED and status != target:
            await cancel(ctx, ticket_id, reason=comment or "cancelled by the remote system")
            return 1
        steps = 0
        if ticket["on_hold"]:
            await resume(ctx, ticket_id, comment=comment)
            steps += 1
        if status == lifecycle.CLOSED and target == lifecycle.IN_PROGRESS:
            await reopen(ctx, ticket_id, reason=comment or "reopened by the remote system")
            return steps + 1
        way = lifecycle.path(status, target)
        if status != target and not way:
            raise ForbiddenTransition(f"A ticket that is {status} cannot come to {target}.")
        for step in way:
            await change_status(ctx, ticket_id, new_status=step, comment=comment)
        return steps + len(way)


async def apply_remote_change(ctx: Context, ticket_id: str, *, status: str | None, comment: str | None) -> int:
    """What a remote system's change means for the ticket: a walk to `status`, or a note; returns how many changes.

    Raises:
        NotFound: there is no such ticket at the actor's sites.
        ForbiddenTransition: the status cannot be reached; nothing was written.
    """
    async with transaction():
        steps = 0 if status is None else await advance_to(ctx, ticket_id, target=status, comment=comment)
        if steps == 0 and comment is not None:
            await note(ctx, ticket_id, comment=comment)
            steps = 1
    return steps


async def note(ctx: Context, ticket_id: str, *, comment: str, expected: IfMatch = ANY_VERSION) -> int:
    """Add a comment to a ticket's trail, and tell it; returns its new version.

    Raises:
        NotFound, StaleVersion: as with `change_status`.
    """
    async with transaction():
        ticket = await lock_ticket(ctx, ticket_id, expected=expected)
        return await write_ticket(ctx, ticket, action="note", comment=comment)


async def assign(
    ctx: Context, ticket_id: str, *, assignee: str, comment: str | None = None, expected: IfMatch = ANY_VERSION
) -> int:
    """Give a ticket to somebody, by user name; an Open ticket becomes Assigned. Returns its new version.

    Raises:
        NotFound: there is no such ticket, or no such active user who works for its site.
        StaleVersion: somebody else changed it meanwhile.
        ForbiddenTransition: the ticket is finished.
    """
    async with transaction():
        ticket = await lock_ticket(ctx, ticket_id, expected=expected)
        if ticket["status"] in lifecycle.FINAL:
            raise ForbiddenTransition(f"A ticket that is {ticket['status']} cannot be assigned.")
        if not await works_at(assignee, ticket["site_id"]):
            raise NotFound(f"There is no active user {assignee} who works for the site {ticket['site_id']}.")
        status = lifecycle.ASSIGNED if ticket["status"] == lifecycle.OPEN else ticket["status"]
        return await write_ticket(ctx, ticket, action="assign", comment=comment, status=status, assignee=assignee)


async def set_priority(
    ctx: Context, ticket_id: str, *, priority: str, comment: str | None = None, expected: IfMatch = ANY_VERSION
) -> int:
    """Change a ticket's priority; its deadline stays, for it was promised. Returns its new version.

    Raises:
        NotFound, StaleVersion: as with `change_status`.
        ForbiddenTransition: the ticket is finished.
    """
    async with transaction():
        ticket = await lock_ticket(ctx, ticket_id, expected=expected)
        if ticket["status"] in lifecycle.FINAL:
            raise ForbiddenTransition(f"The priority of a ticket that is {ticket['status']} stays.")
        return await write_ticket(
            ctx,
            ticket,
            action="set_priority",
            comment=comment,
            priority=priority,
            promised_priority=promised_priority(ticket),
        )


async def hold(ctx: Context, ticket_id: str, *, reason: str, expected: IfMatch = ANY_VERSION) -> int:
    """Put a ticket on hold: its SLA clock stands still. Returns its new version.

    Raises:
        NotFound, StaleVersion, ForbiddenTransition: as with `change_status`.
    """
    async with transaction():
        ticket = await lock_ticket(ctx, ticket_id, expected=expected)
        lifecycle.check_hold(ticket["status"], on_hold=ticket["on_hold"])
        return await write_ticket(ctx, ticket, action="hold", comment=reason, on_hold=True, hold_since=ctx.clock())


async def resume(ctx: Context, ticket_id: str, *, comment: str | None = None, expected: IfMatch = ANY_VERSION) -> int:
    """Take a ticket off hold; its deadline moves by the working time it was held. Returns its new version.

    Raises:
        NotFound, StaleVersion, ForbiddenTransition: as with `change_status`.
    """
    async with transaction():
        ticket = await lock_ticket(ctx, ticket_id, expected=expected)
        lifecycle.check_resume(on_hold=ticket["on_hold"])
        return await write_ticket(ctx, ticket, action="resume", comment=comment, **await off_hold(ticket, ctx.clock()))


async def cancel(ctx: Context, ticket_id: str, *, reason: str, expected: IfMatch = ANY_VERSION) -> int:
    """End a ticket for good without its work having been done. Returns its new version.

    Raises:
        NotFound, StaleVersion, ForbiddenTransition: as with `change_status`.
    """
    async with transaction():
        ticket = await lock_ticket(ctx, ticket_id, expected=expected)
        lifecycle.check_cancel(ticket["status"])
        now = ctx.clock()
        changes = await off_hold(ticket, now) if ticket["on_hold"] else {}
        return await write_ticket(
            ctx, ticket, action="cancel", comment=reason, status=lifecycle.CANCELLED, closed_at=now, **changes
        )


async def reopen(ctx: Context, ticket_id: str, *, reason: str, expected: IfMatch = ANY_VERSION) -> int:
    """Take a closed ticket back into work; its deadline stays, and may be broken anew. Returns its new version.

    Raises:
        NotFound, StaleVersion, ForbiddenTransition: as with `change_status`.
    """
    async with transaction():
        ticket = await lock_ticket(ctx, ticket_id, expected=expected)
        lifecycle.check_reopen(ticket["status"])
        return await write_ticket(
            ctx,
            ticket,
            action="reopen",
            comment=reason,
            status=lifecycle.IN_PROGRESS,
            closed_at=None,
            sla_round=ticket["sla_round"] + 1,
            alerts_sent=[],
            alert_due_at=ctx.clock(),
        )
