"""Purchase requisitions: requested, approved by finance, ordered, received; or rejected, or called off (SPEC R3.3)."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from busbar.sdk import (
    ANY_VERSION,
    Context,
    IfMatch,
    NotFound,
    RuleViolated,
    StoredEvent,
    TicketUpdated,
    advance_to,
    cancel,
    execute,
    fetchrow,
    fetchval,
    module_scope,
    publish,
    record,
    ticket_reference,
    transaction,
)
from busbar_mm import reorder
from busbar_mm.books import Book, amount_of
from busbar_mm.events import RequisitionCancelled, RequisitionChanged, RequisitionFacts, RequisitionStatus
from busbar_mm.ledger import open_books
from busbar_mm.locations import ensure_location
from busbar_mm.procurement import OPEN_STATUSES, NewRequisition, OpenedRequisition, open_requisition

FINISHED_TICKET = ("Closed", "Cancelled")


async def create(
    ctx: Context,
    material_id: str,
    *,
    quantity: Decimal,
    cost_center_id: str | None,
    justification: str,
    storage_location: str | None = None,
) -> OpenedRequisition:
    """Request a purchase; opens a Procurement ticket. Finance approves it, by its cost center.

    Raises:
        NotFound: there is no such material at the actor's sites.
    """
    ctx.require("mm.write")
    async with transaction():
        book = await _book(ctx, material_id)
        if storage_location is not None:
            await ensure_location(ctx, book.site_id, storage_location)
        return await open_requisition(
            ctx,
            book,
            NewRequisition(
                quantity=quantity,
                origin="manual",
                justification=justification,
                cost_center_id=cost_center_id,
                storage_location=storage_location,
            ),
        )


async def change(
    ctx: Context, requisition_id: UUID, changes: Mapping[str, Any], *, expected: IfMatch = ANY_VERSION
) -> int:
    """Change quantity, cost center or justification while nobody has approved it; returns its new version.

    Raises:
        NotFound, StaleVersion: as with materials.
        RuleViolated: it is approved, rejected or finished.
    """
    async with transaction():
        _, row = await lock(ctx, requisition_id, expected=expected, statuses=("requested",))
        changed = {name: value for name, value in changes.items() if value != row[name]}
        if not changed:
            return int(row["version"])
        merged = dict(row) | changed
        merged["amount"] = amount_of(merged["quantity"], merged["unit_price"])
        await execute(
            "update mm.purchase_requisition set quantity = $2, amount = $3, cost_center_id = $4, justification = $5, "
            "updated_at = $6, version = version + 1 where requisition_id = $1",
            requisition_id,
            merged["quantity"],
            merged["amount"],
            merged["cost_center_id"],
            merged["justification"],
            ctx.clock(),
        )
        await note(ctx, merged, "requisition.change", changed)
        await publish(
            ctx,
            "MM_REQUISITION_CHANGED",
            subject=row["ticket_id"],
            site_id=row["site_id"],
            data=RequisitionChanged(ticket_id=row["ticket_id"], requisition=facts_of(merged), changed=tuple(changed)),
        )
    return int(row["version"]) + 1


async def place_order(
    ctx: Context, requisition_id: UUID, *, external_number: str | None, expected: IfMatch = ANY_VERSION
) -> int:
    """Note that an approved requisition was ordered, with the purchasing system's number; returns its new version.

    Raises:
        NotFound, StaleVersion: as with materials.
        RuleViolated: it is not approved, or finished.
    """
    async with transaction():
        _, row = await lock(ctx, requisition_id, expected=expected, statuses=("approved", "ordered"))
        await execute(
            "update mm.purchase_requisition set status = 'ordered', external_number = coalesce($2, external_number), "
            "updated_at = $3, version = version + 1 where requisition_id = $1",
            requisition_id,
            external_number,
            ctx.clock(),
        )
        await note(ctx, row, "requisition.order", {"external_number": external_number}, new_status="ordered")
    return int(row["version"]) + 1


async def call_off(ctx: Context, requisition_id: UUID, *, reason: str, expected: IfMatch = ANY_VERSION) -> int:
    """Cancel a requisition and its ticket; what was received of it stays. Returns its new version.

    Raises:
        NotFound, StaleVersion: as with materials.
        RuleViolated: it is finished already.
    """
    async with transaction():
        book, row = await lock(ctx, requisition_id, expected=expected, statuses=OPEN_STATUSES)
        ticket = await ticket_reference(ctx, row["ticket_id"])
        if ticket.status not in FINISHED_TICKET:
            await cancel(ctx, row["ticket_id"], reason=reason)
        await _cancel(ctx, book, row, reason)
    return int(row["version"]) + 1


async def follow_ticket(ctx: Context, event: StoredEvent) -> None:
    """When the ticket of an open requisition is cancelled, so is the requisition."""
    ticket = msgspec.json.decode(event.data, type=TicketUpdated)
    if ticket.object_kind != "requisition" or ticket.object_id is None or ticket.status != "Cancelled":
        return
    book, row = await lock(ctx, UUID(ticket.object_id))
    if row["status"] in OPEN_STATUSES:
        await _cancel(ctx, book, row, ticket.comment)


async def _cancel(ctx: Context, book: Book, row: asyncpg.Record, reason: str | None) -> None:
    await set_status(ctx, row, "cancelled", comment=reason)
    await publish(
        ctx,
        "MM_REQUISITION_CANCELLED",
        subject=row["ticket_id"],
        site_id=row["site_id"],
        data=RequisitionCancelled(
            ticket_id=row["ticket_id"],
            requisition=facts_of(dict(row) | {"status": "cancelled"}),
            decided_by=ctx.actor.username,
            comment=reason,
        ),
    )
    if row["origin"] == "manual":
        # What it would have brought is missing now. A reorder that was called off is not repeated at once.
        await reorder.look_at([(ctx, book)])


async def set_status(
    ctx: Context,
    row: Mapping[str, Any],
    status: RequisitionStatus,
    *,
    decided_by: str | None = None,
    comment: str | None = None,
) -> None:
    """Write a new status of a locked requisition, with its audit entry."""
    await execute(
        "update mm.purchase_requisition set status = $2, decided_by = coalesce($3, decided_by), decided_at = "
        "case when $3::text is null then decided_at else $4 end, comment = coalesce($5, comment), updated_at = $4, "
        "version = version + 1 where requisition_id = $1",
        row["requisition_id"],
        status,
        decided_by,
        ctx.clock(),
        comment,
    )
    details = {} if comment is None else {"comment": comment}
    await note(ctx, row, f"requisition.{status}", details, new_status=status)


async def lock(
    ctx: Context, requisition_id: UUID, *, expected: IfMatch = ANY_VERSION, statuses: tuple[str, ...] | None = None
) -> tuple[Book, asyncpg.Record]:
    """The locked book of its material, and the requisition, locked after it.

    Raises:
        NotFound: there is no such requisition at the actor's sites.
        StaleVersion: it is not at the expected version.
        RuleViolated: its status is none of `statuses`.
    """
    ctx.require("mm.write")
    sites = await module_scope(ctx, "mm")
    sql = "select material_id from mm.purchase_requisition where requisition_id = $1 and site_id = any($2)"
    material_id = await fetchval(sql, requisition_id, sites)
    if material_id is None:
        raise NotFound(f"There is no purchase requisition {requisition_id}.")
    book = (await open_books([material_id]))[material_id]
    row = await fetchrow(
        "select r.*, m.description, m.unit_of_measure from mm.purchase_requisition r "
        "join mm.material m using (material_id) where r.requisition_id = $1 for update of r",
        requisition_id,
    )
    assert row is not None, "requisitions are never deleted"
    expected.require(row["version"])
    if statuses is not None and row["status"] not in statuses:
        raise RuleViolated(f"The requisition is {row['status']}; this needs one that is {' or '.join(statuses)}.")
    return book, row


def facts_of(row: Mapping[str, Any]) -> RequisitionFacts:
    """What its events say of a requisition, from its row and its material's."""
    values = {name: row[name] for name in RequisitionFacts.__struct_fields__}
    return RequisitionFacts(**values | {"requisition_id": str(row["requisition_id"])})


async def note(
    ctx: Context, row: Mapping[str, Any], action: str, details: Mapping[str, Any], *, new_status: str | None = None
) -> None:
    """An audit entry at the requisition's ticket."""
    await record(
        ctx,
        action=action,
        object_kind="ticket",
        object_id=row["ticket_id"],
        site_id=row["site_id"],
        details={
            "requisition_id": str(row["requisition_id"]),
            **({} if new_status is None else {"status": new_status, "previous_status": row["status"]}),
            **details,
        },
    )


async def advance_ticket(ctx: Context, ticket_id: str, *, target: str, comment: str | None) -> None:
    """Walk the requisition's ticket to `target`, unless somebody has finished it already."""
    ticket = await ticket_reference(ctx, ticket_id)
    if ticket.status not in FINISHED_TICKET:
        await advance_to(ctx, ticket_id, target=target, comment=comment)


async def _book(ctx: Context, material_id: str) -> Book:
    sites = await module_scope(ctx, "mm")
    book = (await open_books([material_id])).get(material_id)
    if book is None or book.site_id not in sites:
        raise NotFound(f"There is no material {material_id}.")
    return book
