"""Cost entries: append-only; what was posted wrongly is reversed by another entry (SPEC R4.2)."""

from datetime import date
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from busbar.sdk import (
    Context,
    FieldError,
    InvalidPayload,
    NotFound,
    RuleViolated,
    fetchrow,
    module_scope,
    publish,
    record,
    ticket_reference,
    transaction,
    uuid7,
)
from busbar_fi import budgets, cost_centers
from busbar_fi.events import CostPosted, CostType, EntryKind


class NewEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A cost that is to be posted by hand."""

    ticket_id: str
    amount: Decimal
    cost_type: CostType
    cost_center_id: str
    posting_date: date | None = None
    """When it arose; today if left out."""
    description: str = ""


class Posting(msgspec.Struct, frozen=True, kw_only=True):
    """An entry, as it is written. The amount is negative for reversals and returns."""

    kind: EntryKind = "cost"
    ticket_id: str | None
    amount: Decimal
    cost_type: CostType
    posting_date: date
    description: str
    asset_id: str | None = None
    reverses: UUID | None = None
    source_event_type: str | None = None
    source_event_id: UUID | None = None
    source_line: int | None = None


# The entry and the running total of its cost center; neither, if the event has made the entry already.
_WRITE: Final = """
with entry as (
    insert into fi.cost_entry (entry_id, kind, ticket_id, cost_center_id, fiscal_year, posting_date, cost_type, amount,
        currency, description, asset_id, reverses, source_event_type, source_event_id, source_line, posted_by, site_id,
        created_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
    on conflict (source_event_id, source_line) do nothing
    returning entry_id, cost_center_id, fiscal_year, amount
), booked as (
    insert into fi.budget_year as y (cost_center_id, fiscal_year, actual_amount)
    select cost_center_id, fiscal_year, amount from entry
    on conflict (cost_center_id, fiscal_year) do update set actual_amount = y.actual_amount + excluded.actual_amount
)
select entry_id from entry
"""


async def post(ctx: Context, new: NewEntry) -> UUID:
    """Post a cost by hand; returns the entry's id.

    Raises:
        NotFound: there is no such ticket or cost center at the actor's sites.
        InvalidPayload: the posting date lies in the future.
        RuleViolated: the cost center is closed.
        OverBudgetRefused: a budget whose policy is to stop has no room; nothing was written.
    """
    ctx.require("fi.write")
    today = ctx.clock().date()
    if new.posting_date is not None and new.posting_date > today:
        problem = FieldError(field="posting_date", message="lies in the future")
        raise InvalidPayload("A cost that has not arisen yet cannot be posted.", errors=[problem])
    async with transaction():
        ticket = await ticket_reference(ctx, new.ticket_id)
        await cost_centers.find(ctx, new.cost_center_id)
        cost_center = (await budgets.lock([new.cost_center_id])).get(new.cost_center_id)
        if cost_center is None:
            raise NotFound(f"There is no cost center {new.cost_center_id} any more.")
        cost_centers.require_active(cost_center)
        entry_id = await write(
            ctx,
            cost_center,
            Posting(
                ticket_id=ticket.ticket_id,
                amount=new.amount,
                cost_type=new.cost_type,
                posting_date=new.posting_date or today,
                description=new.description,
                asset_id=await _asset_of(ticket.ticket_id),
            ),
            may_exceed=False,
        )
    assert entry_id is not None, "only what comes from an event can be there already"
    return entry_id


async def reverse(ctx: Context, entry_id: UUID, *, reason: str) -> UUID:
    """Take a cost back by an entry of the opposite amount, posted today; returns the reversal's id.

    Raises:
        NotFound: there is no such entry at the actor's sites.
        RuleViolated: it is a reversal or a return itself, or was reversed already.
    """
    ctx.require("fi.write")
    async with transaction():
        old = await fetchrow(
            "select * from fi.cost_entry where entry_id = $1 and site_id = any($2)",
            entry_id,
            await module_scope(ctx, "fi"),
        )
        if old is None:
            raise NotFound(f"There is no cost entry {entry_id}.")
        if old["kind"] != "cost":
            raise RuleViolated(f"The entry is a {old['kind']}; post a new cost instead of reversing it.")
        cost_center = (await budgets.lock([old["cost_center_id"]]))[old["cost_center_id"]]
        if await fetchrow("select 1 from fi.cost_entry where reverses = $1", entry_id) is not None:
            raise RuleViolated("The entry was reversed already.")
        reversal = await write(
            ctx,
            cost_center,
            Posting(
                kind="reversal",
                ticket_id=old["ticket_id"],
                amount=-old["amount"],
                cost_type=old["cost_type"],
                posting_date=ctx.clock().date(),
                description=reason[:250],
                asset_id=old["asset_id"],
                reverses=entry_id,
            ),
            fiscal_year=old["fiscal_year"],
            may_exceed=True,
        )
    assert reversal is not None, "only what comes from an event can be there already"
    return reversal


async def write(
    ctx: Context,
    cost_center: asyncpg.Record,
    posting: Posting,
    *,
    may_exceed: bool,
    fiscal_year: int | None = None,
) -> UUID | None:
    """Write an entry on a cost center that is locked, book it, tell it; returns its id.

    Returns None when the event that the entry comes from has made it already; then nothing is written.

    Raises:
        OverBudgetRefused: a budget whose policy is to stop has no room, and it may not be exceeded.
    """
    year = fiscal_year or budgets.fiscal_year_of(posting.posting_date, cost_center["fiscal_year_start_month"])
    weighed = await budgets.weigh(cost_center["cost_center_id"], year, actual=posting.amount, may_exceed=may_exceed)
    entry_id = uuid7()
    written = await fetchrow(
        _WRITE,
        entry_id,
        posting.kind,
        posting.ticket_id,
        cost_center["cost_center_id"],
        year,
        posting.posting_date,
        posting.cost_type,
        posting.amount,
        cost_center["currency"],
        posting.description,
        posting.asset_id,
        posting.reverses,
        posting.source_event_type,
        posting.source_event_id,
        posting.source_line,
        ctx.actor.username,
        cost_center["site_id"],
        ctx.clock(),
    )
    if written is None:
        return None
    await budgets.tell_passed(ctx, weighed, cost_center, posting.ticket_id)
    await _note(ctx, entry_id, cost_center, posting)
    await _tell(ctx, entry_id, cost_center, year, posting)
    return entry_id


async def _asset_of(ticket_id: str) -> str | None:
    row = await fetchrow("select asset_id from fi.cost_object where ticket_id = $1", ticket_id)
    return None if row is None else row["asset_id"]


async def _note(ctx: Context, entry_id: UUID, cost_center: asyncpg.Record, posting: Posting) -> None:
    details: dict[str, Any] = {
        "amount": str(posting.amount),
        "cost_type": posting.cost_type,
        "cost_center_id": cost_center["cost_center_id"],
        "ticket_id": posting.ticket_id,
    }
    await record(
        ctx,
        action=f"cost_entry.{'reverse' if posting.reverses else 'post'}",
        object_kind="cost_entry",
        object_id=str(entry_id),
        site_id=cost_center["site_id"],
        comment=posting.description or None,
        details=details,
    )


async def _tell(ctx: Context, entry_id: UUID, cost_center: asyncpg.Record, fiscal_year: int, posting: Posting) -> None:
    await publish(
        ctx,
        "FI_COST_POSTED",
        subject=posting.ticket_id or cost_center["cost_center_id"],
        site_id=cost_center["site_id"],
        data=CostPosted(
            entry_id=str(entry_id),
            kind=posting.kind,
            ticket_id=posting.ticket_id,
            cost_center_id=cost_center["cost_center_id"],
            fiscal_year=fiscal_year,
            posting_date=posting.posting_date,
            cost_type=posting.cost_type,
            amount=posting.amount,
            currency=cost_center["currency"],
            source_event_type=posting.source_event_type,
            source_event_id=str(posting.source_event_id) if posting.source_event_id else None,
            asset_id=posting.asset_id,
            description=posting.description,
            reverses=str(posting.reverses) if posting.reverses else None,
        ),
    )
