"""Approval requests: somebody asks for an amount, and an ordered hierarchy is to decide (SPEC R4.3)."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
import msgspec

from busbar.sdk import (
    ANY_VERSION,
    Context,
    FieldError,
    Forbidden,
    IfMatch,
    InvalidPayload,
    NewTicket,
    NotFound,
    Opening,
    RuleViolated,
    assign,
    execute,
    fetch,
    fetchrow,
    module_scope,
    publish,
    record,
    require_people,
    ticket_reference,
    transaction,
    uuid7,
    works_at,
)
from busbar_fi import cost_centers
from busbar_fi.events import ApprovalChanged, ApprovalFacts, ApprovalRequested

Priority = Literal["P1", "P2", "P3", "P4"]
URGENT_FROM: Final = Decimal(50_000)
"""From this amount on a request is P2 unless it says otherwise, below P3."""


class NewRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An amount that is asked for."""

    amount: Decimal
    justification: str
    cost_center_id: str
    approval_hierarchy: tuple[str, ...]
    """User names or `role:<name>`, in the order in which they are to decide."""
    priority: Priority | None = None


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a request that comes by itself is about."""

    kind: Literal["requisition"]
    id: str
    ticket_id: str


class OpenedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What was opened."""

    approval_id: str
    ticket_id: str


_OPENING: Final = Opening(module="fi", event_type="FI_TICKET_CREATED", columns={})
_INSERT: Final = """
insert into fi.approval_request (approval_id, ticket_id, cost_center_id, amount, currency, justification, priority,
    requested_by, subject_kind, subject_id, subject_ticket_id, waiting_since, site_id, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $12, $12)
"""
_INSERT_LEVELS: Final = """
insert into fi.approval_level (approval_id, level, approver)
select $1, level, approver from unnest($2::text[]) with ordinality as l (approver, level)
"""


async def request(ctx: Context, new: NewRequest) -> OpenedRequest:
    """Ask for an amount; opens a Finance_Approval ticket.

    Raises:
        NotFound: there is no such cost center at the actor's sites.
        InvalidPayload: an approver is unknown, named twice, or the requester.
        RuleViolated: the cost center is closed.
    """
    ctx.require("fi.write")
    async with transaction():
        cost_center = await cost_centers.find(ctx, new.cost_center_id)
        site_id = cost_center["site_id"]
        await check_hierarchy(new.approval_hierarchy, requester=ctx.actor.username, site_id=site_id)
        cost_centers.require_active(cost_center)
        return await open_request(ctx, new, cost_center=cost_center, requested_by=ctx.actor.username)


async def open_request(
    ctx: Context, new: NewRequest, *, cost_center: asyncpg.Record, requested_by: str, subject: Subject | None = None
) -> OpenedRequest:
    """Open a request and its ticket in the transaction that is open, and tell it; everything in it is checked."""
    approval_id = uuid7()
    facts = ApprovalFacts(
        approval_id=str(approval_id),
        amount=new.amount,
        currency=cost_center["currency"],
        justification=new.justification,
        cost_center_id=cost_center["cost_center_id"],
        approval_hierarchy=new.approval_hierarchy,
        level=1,
        status="pending",
        requested_by=requested_by,
        subject_kind=subject.kind if subject else None,
        subject_id=subject.id if subject else None,
        subject_ticket_id=subject.ticket_id if subject else None,
    )
    priority = new.priority or ("P2" if new.amount >= URGENT_FROM else "P3")
    first_line = new.justification.strip().split("\n", 1)[0]
    opened = await _OPENING.open(
        ctx,
        NewTicket(
            ticket_type="Finance_Approval",
            title=f"Approve {new.amount:.2f} {facts.currency} on {facts.cost_center_id}: {first_line}"[:200],
            description=new.justification,
            priority=priority,
            site_id=cost_center["site_id"],
            object_kind="approval",
            object_id=str(approval_id),
        ),
        facts={"approval": facts},
    )
    if opened is None:
        raise NotFound(f"Finance is not enabled at the site {cost_center['site_id']}; an administrator can enable it.")
    await execute(
        _INSERT,
        approval_id,
        opened.ticket_id,
        facts.cost_center_id,
        facts.amount,
        facts.currency,
        facts.justification,
        priority,
        requested_by,
        facts.subject_kind,
        facts.subject_id,
        facts.subject_ticket_id,
        ctx.clock(),
        cost_center["site_id"],
    )
    await execute(_INSERT_LEVELS, approval_id, list(new.approval_hierarchy))
    told = ApprovalRequested(ticket_id=opened.ticket_id, approval=facts)
    await publish(ctx, "FI_APPROVAL_REQUESTED", subject=opened.ticket_id, site_id=cost_center["site_id"], data=told)
    await hand_over(ctx, opened.ticket_id, new.approval_hierarchy[0])
    return OpenedRequest(approval_id=str(approval_id), ticket_id=opened.ticket_id)


async def change(
    ctx: Context,
    approval_id: UUID,
    *,
    amount: Decimal | None = None,
    justification: str | None = None,
    expected: IfMatch = ANY_VERSION,
) -> int:
    """Change what is asked for, as long as nobody decided anything; returns the request's new version.

    Raises:
        NotFound: there is no such request at the actor's sites.
        StaleVersion: somebody else changed it meanwhile.
        Forbidden: somebody else asked for it.
        RuleViolated: a level has decided, or it follows a requisition, which alone says what is needed.
    """
    ctx.require("fi.write")
    async with transaction():
        row = await lock(ctx, approval_id, expected=expected)
        require_own(ctx, row, "change")
        require_pending(row)
        if row["level"] > 1:
            raise RuleViolated("A level has decided about it; withdraw it and ask anew.")
        if row["subject_kind"] is not None:
            raise RuleViolated(f"It follows the {row['subject_kind']} {row['subject_id']}; change that instead.")
        if amount is None and justification is None:
            return int(row["version"])
        after = {
            **row,
            "amount": row["amount"] if amount is None else amount,
            "justification": row["justification"] if justification is None else justification,
        }
        await execute(
            "update fi.approval_request set amount = $2, justification = $3, updated_at = $4, version = version + 1 "
            "where approval_id = $1",
            approval_id,
            after["amount"],
            after["justification"],
            ctx.clock(),
        )
        await note(ctx, row, "change", details={"amount": str(after["amount"])})
        told = ApprovalChanged(ticket_id=row["ticket_id"], approval=facts_of(after, await levels_of(approval_id)))
        await publish(ctx, "FI_APPROVAL_CHANGED", subject=row["ticket_id"], site_id=row["site_id"], data=told)
    return int(row["version"]) + 1


async def ask_anew(ctx: Context, row: Mapping[str, Any], new: NewRequest) -> None:
    """Something else is asked for in a pending request that is locked: all levels decide from the first on.

    What was decided about the old amount stays in the trail.
    """
    now = ctx.clock()
    await execute("delete from fi.approval_level where approval_id = $1", row["approval_id"])
    await execute(_INSERT_LEVELS, row["approval_id"], list(new.approval_hierarchy))
    await execute(
        "update fi.approval_request set amount = $2, justification = $3, cost_center_id = $4, level = 1, "
        "waiting_since = $5, reminded_at = null, updated_at = $5, version = version + 1 where approval_id = $1",
        row["approval_id"],
        new.amount,
        new.justification,
        new.cost_center_id,
        now,
    )
    await note(ctx, row, "change", details={"amount": str(new.amount), "hierarchy": new.approval_hierarchy})
    after = await lock(ctx, row["approval_id"])
    told = ApprovalChanged(ticket_id=row["ticket_id"], approval=facts_of(after, await levels_of(row["approval_id"])))
    await publish(ctx, "FI_APPROVAL_CHANGED", subject=row["ticket_id"], site_id=row["site_id"], data=told)
    await hand_over(ctx, row["ticket_id"], new.approval_hierarchy[0])


async def check_hierarchy(hierarchy: Sequence[str], *, requester: str, site_id: str) -> None:
    """Refuse approvers who are unknown at the site, named twice, or ask themselves.

    Raises:
        InvalidPayload: naming each by its place.
    """
    errors = []
    for n, name in enumerate(hierarchy):
        if name == requester:
            errors.append(FieldError(field=f"approval_hierarchy[{n}]", message="is who asks; nobody decides about it"))
        elif name in hierarchy[:n]:
            errors.append(FieldError(field=f"approval_hierarchy[{n}]", message="is named before already"))
    if errors:
        raise InvalidPayload("The hierarchy cannot be used.", errors=errors)
    await require_people(hierarchy, field="approval_hierarchy", site_id=site_id)


async def lock(ctx: Context, approval_id: UUID, *, expected: IfMatch = ANY_VERSION) -> asyncpg.Record:
    """The request's row, locked for the transaction. Lock it before cost centers and tickets, as everybody does.

    Raises:
        NotFound: there is no such request at the actor's sites.
        StaleVersion: it is not at the expected version.
    """
    row = await fetchrow(
        "select * from fi.approval_request where approval_id = $1 and site_id = any($2) for update",
        approval_id,
        await module_scope(ctx, "fi"),
    )
    if row is None:
        raise NotFound(f"There is no approval request {approval_id}.")
    expected.require(row["version"])
    return row


def require_pending(row: Mapping[str, Any]) -> None:
    """Refuse a request that is decided or withdrawn.

    Raises:
        RuleViolated: saying which.
    """
    if row["status"] != "pending":
        raise RuleViolated(f"The request is {row['status']} already.")


def require_own(ctx: Context, row: Mapping[str, Any], verb: str) -> None:
    """Refuse anybody but the requester.

    Raises:
        Forbidden: naming the requester.
    """
    if row["requested_by"] != ctx.actor.username:
        raise Forbidden(f"Only {row['requested_by']}, who asked for it, can {verb} it.")


async def levels_of(approval_id: UUID) -> list[asyncpg.Record]:
    """The levels of a request, in order."""
    return await fetch("select * from fi.approval_level where approval_id = $1 order by level", approval_id)


def facts_of(row: Mapping[str, Any], levels: Sequence[Mapping[str, Any]]) -> ApprovalFacts:
    """What an event says of a request."""
    return ApprovalFacts(
        approval_id=str(row["approval_id"]),
        amount=row["amount"],
        currency=row["currency"],
        justification=row["justification"],
        cost_center_id=row["cost_center_id"],
        approval_hierarchy=tuple(level["approver"] for level in levels),
        level=row["level"],
        status=row["status"],
        requested_by=row["requested_by"],
        subject_kind=row["subject_kind"],
        subject_id=row["subject_id"],
        subject_ticket_id=row["subject_ticket_id"],
    )


def as_ticket_mover(ctx: Context) -> Context:
    """The same actor, who may move the ticket that follows a decision, which needs less than writing finance."""
    allowed = ctx.actor.permissions | {"fi.read", "fi.write"}
    return msgspec.structs.replace(ctx, actor=msgspec.structs.replace(ctx.actor, permissions=allowed))


async def hand_over(ctx: Context, ticket_id: str, approver: str) -> None:
    """Assign the ticket to whoever is to decide next, where that is one person who is still there."""
    ticket = await ticket_reference(ctx, ticket_id)
    if ticket.status not in ("Closed", "Cancelled") and await works_at(approver, ticket.site_id):
        await assign(as_ticket_mover(ctx), ticket_id, assignee=approver, comment="Is to decide.")


async def note(
    ctx: Context, row: Mapping[str, Any], verb: str, *, comment: str | None = None, details: Mapping[str, Any]
) -> None:
    """Add an entry to the trail of the request's ticket."""
    await record(
        ctx,
        action=f"approval.{verb}",
        object_kind="ticket",
        object_id=row["ticket_id"],
        site_id=row["site_id"],
        comment=comment,
        details={"approval_id": str(row["approval_id"]), **details},
    )
