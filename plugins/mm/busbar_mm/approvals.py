"""What finance decides about a purchase requisition is carried out here."""

from uuid import UUID

import msgspec

from busbar.sdk import Context, RuleViolated, StoredEvent, cancel, publish, ticket_reference
from busbar_mm.events import RequisitionApproved, RequisitionRejected
from busbar_mm.inbound import ApprovalDecided
from busbar_mm.requisitions import FINISHED_TICKET, advance_ticket, call_off, facts_of, lock, note, set_status


async def follow_approval(ctx: Context, event: StoredEvent) -> None:
    """Approve or reject the requisition that an approval is about; one that is withdrawn calls it off.

    A decision about a requisition that waits for none any more is noted on its trail, and changes nothing.

    Raises:
        RuleViolated: less was approved than the requisition asks for by now.
    """
    decided = msgspec.json.decode(event.data, type=ApprovalDecided)
    if decided.approval.subject_kind != "requisition" or decided.approval.subject_id is None:
        return
    requisition_id = UUID(decided.approval.subject_id)
    _, row = await lock(ctx, requisition_id)
    ticket = await ticket_reference(ctx, row["ticket_id"])
    details = {
        "approval_id": decided.approval.approval_id,
        "decision": decided.decision,
        "decided_by": decided.decided_by,
    }
    if row["status"] != "requested" or ticket.status == "Cancelled":
        await note(ctx, row, "requisition.decision_too_late", details)
    elif decided.decision == "withdrawn":
        await call_off(ctx, requisition_id, reason=decided.comment or "The request for approval was withdrawn.")
    elif decided.decision == "approved":
        if decided.approval.amount < row["amount"]:
            raise RuleViolated(
                f"The requisition {requisition_id} asks for {row['amount']} by now, and {decided.approval.amount} was "
                "approved; lower its quantity and replay this, or call it off."
            )
        await set_status(ctx, row, "approved", decided_by=decided.decided_by, comment=decided.comment)
        facts = facts_of(dict(row) | {"status": "approved"})
        told = RequisitionApproved(
            ticket_id=row["ticket_id"], requisition=facts, decided_by=decided.decided_by, comment=decided.comment
        )
        await publish(ctx, "MM_REQUISITION_APPROVED", subject=row["ticket_id"], site_id=row["site_id"], data=told)
        await advance_ticket(ctx, row["ticket_id"], target="In_Progress", comment=f"Approved by {decided.decided_by}.")
    else:
        await set_status(ctx, row, "rejected", decided_by=decided.decided_by, comment=decided.comment)
        facts = facts_of(dict(row) | {"status": "rejected"})
        refused = RequisitionRejected(
            ticket_id=row["ticket_id"], requisition=facts, decided_by=decided.decided_by, comment=decided.comment
        )
        await publish(ctx, "MM_REQUISITION_REJECTED", subject=row["ticket_id"], site_id=row["site_id"], data=refused)
        if ticket.status not in FINISHED_TICKET:
            reason = decided.comment or f"Rejected by {decided.decided_by}."
            await cancel(ctx, row["ticket_id"], reason=reason)
