"""Requisitions of materials management: each sets money aside, is checked against the budget, and asks for approval."""

from decimal import Decimal
from typing import Final

import asyncpg
import msgspec

from busbar.sdk import Context, StoredEvent, fetchrow, ticket_reference
from busbar_fi import approval_rules, approvals, budgets, commitments, decisions
from busbar_fi.approvals import NewRequest, Subject
from busbar_fi.budgets import OverBudgetRefused
from busbar_fi.commitments import Source
from busbar_fi.costing import FINISHED, lock_cost_center
from busbar_fi.decisions import Verdict
from busbar_fi.inbound import RequisitionEvent, RequisitionFacts

_CENT: Final = Decimal("0.01")


async def follow_requisition(ctx: Context, event: StoredEvent) -> None:
    """What happens to a requisition, in order: created, changed, approved, received, rejected or cancelled.

    Raises:
        RuleViolated: no cost center can be found for it, it is closed, or it keeps another currency.
    """
    told = msgspec.json.decode(event.data, type=RequisitionEvent)
    requisition = told.requisition
    match event.event_type:
        case "MM_REQUISITION_CREATED":
            await _take_up(ctx, event, told)
        case "MM_REQUISITION_CHANGED":
            await _ask_anew(ctx, event, requisition)
        case "MM_REQUISITION_RECEIVED":
            await _received(ctx, told)
        case "MM_REQUISITION_REJECTED" | "MM_REQUISITION_CANCELLED":
            await _given_up(ctx, requisition, comment=told.comment or "The requisition was given up.")


async def _take_up(ctx: Context, event: StoredEvent, told: RequisitionEvent) -> None:
    """Commitment, budget check and approval request, once for each requisition, however often its event comes.

    One that is over by now, as when an old event is replayed, needs none of them.
    """
    requisition = told.requisition
    if await _request_of(requisition) is not None:
        return
    if (await ticket_reference(ctx, told.ticket_id)).status in FINISHED:
        return
    amount = requisition.amount.quantize(_CENT)
    cost_center = await lock_cost_center(event, requisition.cost_center_id, requisition.currency)
    source = Source(kind="requisition", id=requisition.requisition_id, ticket_id=told.ticket_id)
    refused: OverBudgetRefused | None = None
    try:
        await commitments.open_commitment(ctx, source, cost_center=cost_center, amount=amount, may_exceed=False)
    except OverBudgetRefused as error:
        refused = error
    await approvals.open_request(
        ctx,
        await _wanted(event, requisition, cost_center, amount),
        cost_center=cost_center,
        requested_by=requisition.requested_by,
        subject=Subject(kind="requisition", id=requisition.requisition_id, ticket_id=told.ticket_id),
    )
    if refused is not None:
        row = await _request_of(requisition)
        assert row is not None, "opened just now"
        await _reject(ctx, row, cost_center, refused)


async def _ask_anew(ctx: Context, event: StoredEvent, requisition: RequisitionFacts) -> None:
    """Another quantity or cost center: money and decision are about that now, from the first level on."""
    row = await _request_of(requisition)
    if row is None:
        return
    row = await approvals.lock(ctx, row["approval_id"])
    commitment = await commitments.find("requisition", requisition.requisition_id)
    if row["status"] != "pending" or commitment is None:
        return
    amount = requisition.amount.quantize(_CENT)
    cost_center = await lock_cost_center(event, requisition.cost_center_id, requisition.currency, also=commitment)
    if (amount, cost_center["cost_center_id"]) == (row["amount"], row["cost_center_id"]):
        return
    await approvals.ask_anew(ctx, row, await _wanted(event, requisition, cost_center, amount))
    try:
        await commitments.move(ctx, commitment, cost_center=cost_center, amount=amount, may_exceed=False)
    except OverBudgetRefused as refused:
        row = await approvals.lock(ctx, row["approval_id"])
        await _reject(ctx, row, cost_center, refused)


async def _wanted(
    event: StoredEvent, requisition: RequisitionFacts, cost_center: asyncpg.Record, amount: Decimal
) -> NewRequest:
    hierarchy = await approval_rules.hierarchy_for(event.site_id, amount, requester=requisition.requested_by)
    return NewRequest(
        amount=amount,
        justification=_justification(requisition),
        cost_center_id=cost_center["cost_center_id"],
        approval_hierarchy=hierarchy,
    )


async def _reject(ctx: Context, row: asyncpg.Record, cost_center: asyncpg.Record, refused: OverBudgetRefused) -> None:
    """Nobody is asked for what the budget has no room for; the request says so, and materials management hears it."""
    await budgets.tell_exceeded(
        ctx, refused.budget, cost_center, refused.needed, refused=True, source_ticket_id=row["ticket_id"]
    )
    verdict = Verdict(decision="rejected", decided_by=ctx.actor.username, comment=refused.detail)
    await decisions.complete(ctx, row, verdict)


async def _received(ctx: Context, told: RequisitionEvent) -> None:
    """What is in stock needs no money any more; of what came in part, the rest does."""
    requisition, received = told.requisition, told.received_quantity
    commitment = await commitments.find("requisition", requisition.requisition_id)
    if commitment is None:
        return
    if received is None or received >= requisition.quantity:
        await commitments.close(ctx, commitment)
    else:
        left = commitment["original_amount"] * (requisition.quantity - received) / requisition.quantity
        await commitments.reduce(ctx, commitment, left=left.quantize(_CENT))


async def _given_up(ctx: Context, requisition: RequisitionFacts, *, comment: str) -> None:
    row = await _request_of(requisition)
    if row is not None:
        row = await approvals.lock(ctx, row["approval_id"])
        if row["status"] == "pending":
            verdict = Verdict(decision="withdrawn", decided_by=ctx.actor.username, comment=comment)
            await decisions.complete(ctx, row, verdict)
    commitment = await commitments.find("requisition", requisition.requisition_id)
    if commitment is not None:
        await commitments.close(ctx, commitment)


async def _request_of(requisition: RequisitionFacts) -> asyncpg.Record | None:
    return await fetchrow(
        "select * from fi.approval_request where subject_kind = 'requisition' and subject_id = $1",
        requisition.requisition_id,
    )


def _justification(requisition: RequisitionFacts) -> str:
    what = f"{requisition.quantity.normalize():f} {requisition.unit_of_measure}".strip()
    goods = f"{what} of {requisition.material_id} {requisition.description}".strip()
    return f"{requisition.justification}\n{goods}".strip()[:10_000]
