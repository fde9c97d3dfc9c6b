"""Decisions on approval requests: level by level, each by another person, none by the requester (four eyes)."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from busbar.sdk import (
    ANY_VERSION,
    Context,
    IfMatch,
    RuleViolated,
    StoredEvent,
    TicketUpdated,
    advance_to,
    execute,
    fetchrow,
    publish,
    reopen,
    ticket_reference,
    transaction,
)
from busbar_fi import approvals, commitments, deciders
from busbar_fi.events import ApprovalAdvanced, ApprovalCompleted, Decision


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How a request ends, and by whom."""

    decision: Decision
    decided_by: str
    on_behalf_of: str | None = None
    comment: str | None = None

    @property
    def by(self) -> str:
        """For people: `bea for anna` where somebody decided for another."""
        return f"{self.decided_by} for {self.on_behalf_of}" if self.on_behalf_of else self.decided_by


async def approve(
    ctx: Context, approval_id: UUID, *, comment: str | None = None, expected: IfMatch = ANY_VERSION
) -> int:
    """Approve at the level whose turn it is; the last one completes the request. Returns its new version.

    Raises:
        NotFound: there is no such request at the actor's sites.
        StaleVersion: somebody else changed it meanwhile.
        Forbidden: the level is for somebody else.
        RuleViolated: it is decided already, or the actor asked for it or decided another level.
    """
    return await _decide(ctx, approval_id, "approved", comment, expected)


async def reject(ctx: Context, approval_id: UUID, *, comment: str, expected: IfMatch = ANY_VERSION) -> int:
    """Reject at the level whose turn it is, which ends the request. Returns its new version.

    Raises:
        NotFound, StaleVersion, Forbidden, RuleViolated: as with `approve`.
    """
    return await _decide(ctx, approval_id, "rejected", comment, expected)


async def withdraw(ctx: Context, approval_id: UUID, *, comment: str, expected: IfMatch = ANY_VERSION) -> int:
    """Take one's own request back. Returns its new version.

    Raises:
        NotFound, StaleVersion: as with `approve`.
        Forbidden: somebody else asked for it.
        RuleViolated: it is decided already.
    """
    async with transaction():
        row = await approvals.lock(ctx, approval_id, expected=expected)
        approvals.require_own(ctx, row, "withdraw")
        approvals.require_pending(row)
        verdict = Verdict(decision="withdrawn", decided_by=ctx.actor.username, comment=comment)
        await complete(ctx, row, verdict)
    return int(row["version"]) + 1


async def follow_ticket(ctx: Context, event: StoredEvent) -> None:
    """What somebody does to the ticket by hand: cancelling it withdraws the request, closing it decides nothing."""
    ticket = msgspec.json.decode(event.data, type=TicketUpdated)
    if ticket.object_kind != "approval" or ticket.object_id is None or ticket.status not in ("Closed", "Cancelled"):
        return
    row = await approvals.lock(ctx, UUID(ticket.object_id))
    if row["status"] != "pending":
        return
    if ticket.status == "Cancelled":
        by = await _name_of(event.actor_id)
        await complete(ctx, row, Verdict(decision="withdrawn", decided_by=by, comment=ticket.comment))
    elif (await ticket_reference(ctx, ticket.ticket_id)).status == "Closed":
        await reopen(ctx, ticket.ticket_id, reason="Nobody has decided yet: approve, reject or withdraw the request.")


async def complete(ctx: Context, row: Mapping[str, Any], verdict: Verdict) -> None:
    """End a request that is locked: frees what was set aside unless approved, ends the ticket, tells it."""
    now = ctx.clock()
    await execute(
        "update fi.approval_request set status = $2, decided_by = $3, decided_at = $4, comment = $5, updated_at = $4, "
        "version = version + 1 where approval_id = $1",
        row["approval_id"],
        verdict.decision,
        verdict.decided_by,
        now,
        verdict.comment,
    )
    if verdict.decision != "approved" and row["subject_kind"] == "requisition":
        commitment = await commitments.find("requisition", row["subject_id"])
        if commitment is not None:
            await commitments.close(ctx, commitment)
    await approvals.note(
        ctx, row, verdict.decision, comment=verdict.comment, details={"level": row["level"], "by": verdict.by}
    )
    levels = await approvals.levels_of(row["approval_id"])
    await publish(
        ctx,
        "FI_APPROVAL_COMPLETED",
        subject=row["ticket_id"],
        site_id=row["site_id"],
        data=ApprovalCompleted(
            ticket_id=row["ticket_id"],
            approval=approvals.facts_of({**row, "status": verdict.decision}, levels),
            decision=verdict.decision,
            decided_by=verdict.decided_by,
            on_behalf_of=verdict.on_behalf_of,
            comment=verdict.comment,
        ),
    )
    await _end_ticket(ctx, row["ticket_id"], verdict)


async def _decide(ctx: Context, approval_id: UUID, decision: Decision, comment: str | None, expected: IfMatch) -> int:
    ctx.require("fi.approve")
    async with transaction():
        row = await approvals.lock(ctx, approval_id, expected=expected)
        approvals.require_pending(row)
        levels = await approvals.levels_of(approval_id)
        person = deciders.who_decides(await deciders.principals(ctx), row, levels)
        if (await ticket_reference(ctx, row["ticket_id"])).status == "Cancelled":
            raise RuleViolated("The request's ticket is cancelled, which withdraws the request.")
        me = ctx.actor.username
        verdict = Verdict(
            decision=decision,
            decided_by=me,
            on_behalf_of=person.username if person.username != me else None,
            comment=comment,
        )
        await execute(
            "update fi.approval_level set decision = $3, decided_by = $4, on_behalf_of = $5, decided_at = $6, "
            "comment = $7 where approval_id = $1 and level = $2",
            approval_id,
            row["level"],
            decision,
            me,
            verdict.on_behalf_of,
            ctx.clock(),
            comment,
        )
        if decision == "rejected" or row["level"] == len(levels):
            await complete(ctx, row, verdict)
        else:
            await _advance(ctx, row, levels, verdict)
    return int(row["version"]) + 1


async def _advance(ctx: Context, row: Mapping[str, Any], levels: Sequence[Mapping[str, Any]], verdict: Verdict) -> None:
    """The next level's turn begins."""
    following = row["level"] + 1
    await execute(
        "update fi.approval_request set level = $2, waiting_since = $3, reminded_at = null, updated_at = $3, "
        "version = version + 1 where approval_id = $1",
        row["approval_id"],
        following,
        ctx.clock(),
    )
    await approvals.note(
        ctx, row, verdict.decision, comment=verdict.comment, details={"level": row["level"], "by": verdict.by}
    )
    await publish(
        ctx,
        "FI_APPROVAL_ADVANCED",
        subject=row["ticket_id"],
        site_id=row["site_id"],
        data=ApprovalAdvanced(
            ticket_id=row["ticket_id"],
            approval=approvals.facts_of({**row, "level": following}, levels),
            decided_by=verdict.decided_by,
            on_behalf_of=verdict.on_behalf_of,
            comment=verdict.comment,
        ),
    )
    await approvals.hand_over(ctx, row["ticket_id"], levels[row["level"]]["approver"])


async def _end_ticket(ctx: Context, ticket_id: str, verdict: Verdict) -> None:
    """Closed by an approval, cancelled by anything else; also when somebody has closed it by hand before."""
    mover = approvals.as_ticket_mover(ctx)
    comment = f"{verdict.decision.capitalize()} by {verdict.by}" + (f": {verdict.comment}" if verdict.comment else ".")
    status = (await ticket_reference(ctx, ticket_id)).status
    if verdict.decision == "approved":
        await advance_to(mover, ticket_id, target="Closed", comment=comment[:1000])
    elif status != "Cancelled":
        if status == "Closed":
            await reopen(mover, ticket_id, reason="It was closed before the request was decided.")
        await advance_to(mover, ticket_id, target="Cancelled", comment=comment[:1000])


async def _name_of(user_id: str) -> str:
    """The user name behind the id that an event carries; the id itself where it is no user's, as of automatic work."""
    row = await fetchrow("select username from core.user_account where user_id::text = $1", user_id)
    return user_id if row is None else str(row["username"])
