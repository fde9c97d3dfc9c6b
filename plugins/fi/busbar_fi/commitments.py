"""Commitments: money set aside for requisitions and planned orders, until it is spent or given back."""

from decimal import Decimal
from typing import Final, Literal

import asyncpg
import msgspec

from busbar.sdk import Context, execute, fetchrow, publish, record, transaction, uuid7
from busbar_fi import budgets
from busbar_fi.budgets import ZERO
from busbar_fi.events import CommitmentChanged, CommitmentStatus

SourceKind = Literal["requisition", "order"]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What money is set aside for."""

    kind: SourceKind
    id: str
    ticket_id: str


_INSERT: Final = """
insert into fi.commitment (commitment_id, source_kind, source_id, source_ticket_id, cost_center_id, fiscal_year,
    original_amount, amount, currency, status, site_id, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $7, $8, 'open', $9, $10, $10)
"""
_SET: Final = "update fi.commitment set amount = $2, status = $3, updated_at = $4 where commitment_id = $1"


async def open_commitment(
    ctx: Context, source: Source, *, cost_center: asyncpg.Record, amount: Decimal, may_exceed: bool
) -> None:
    """Set an amount aside on a cost center that is locked, in the fiscal year of now.

    Raises:
        OverBudgetRefused: a budget whose policy is to stop has no room, and it may not be exceeded.
    """
    year = budgets.fiscal_year_of(ctx.clock().date(), cost_center["fiscal_year_start_month"])
    await budgets.commit_money(ctx, cost_center, year, amount, may_exceed=may_exceed, source_ticket_id=source.ticket_id)
    commitment_id = uuid7()
    await execute(
        _INSERT,
        commitment_id,
        source.kind,
        source.id,
        source.ticket_id,
        cost_center["cost_center_id"],
        year,
        amount,
        cost_center["currency"],
        cost_center["site_id"],
        ctx.clock(),
    )
    row = await find(source.kind, source.id)
    assert row is not None, "inserted just now"
    await _tell(ctx, row, amount=amount, change=amount, status="open")


async def find(kind: SourceKind, source_id: str) -> asyncpg.Record | None:
    """The commitment of a requisition or an order, if there is one."""
    return await fetchrow("select * from fi.commitment where source_kind = $1 and source_id = $2", kind, source_id)


async def reduce(ctx: Context, commitment: asyncpg.Record, *, left: Decimal) -> None:
    """Keep no more than `left` set aside; a commitment that is closed, or has less, stays as it is."""
    await budgets.lock([commitment["cost_center_id"]])
    current = await _current(commitment)
    if current["status"] != "closed" and left < current["amount"]:
        await _set(ctx, current, left, status="reduced")


async def replan(ctx: Context, commitment: asyncpg.Record, planned: Decimal) -> None:
    """The plan of an order says another amount now; harmless when it is over."""
    await budgets.lock([commitment["cost_center_id"]])
    current = await _current(commitment)
    if current["status"] == "closed" or planned == current["amount"]:
        return
    await execute(
        "update fi.commitment set original_amount = $2 where commitment_id = $1", current["commitment_id"], planned
    )
    await _set(ctx, current, planned, status="open")


async def move(
    ctx: Context, commitment: asyncpg.Record, *, cost_center: asyncpg.Record, amount: Decimal, may_exceed: bool
) -> None:
    """Set another amount aside instead, perhaps on another cost center; both are locked already.

    One that is closed stays so.

    Raises:
        OverBudgetRefused: a budget whose policy is to stop has no room, and it may not be exceeded.
    """
    year = budgets.fiscal_year_of(ctx.clock().date(), cost_center["fiscal_year_start_month"])
    async with transaction():
        current = await _current(commitment)
        if current["status"] == "closed":
            return
        await _set(ctx, current, ZERO, status="reduced")
        await budgets.commit_money(
            ctx,
            cost_center,
            year,
            amount,
            may_exceed=may_exceed,
            source_ticket_id=current["source_ticket_id"],
        )
        await execute(
            "update fi.commitment set cost_center_id = $2, fiscal_year = $3, original_amount = $4, amount = $4, "
            "status = 'open', updated_at = $5 where commitment_id = $1",
            current["commitment_id"],
            cost_center["cost_center_id"],
            year,
            amount,
            ctx.clock(),
        )
        await _tell(ctx, await _current(commitment), amount=amount, change=amount, status="open")


async def close(ctx: Context, commitment: asyncpg.Record) -> None:
    """Give back for good what is still set aside; harmless when it is closed already."""
    await budgets.lock([commitment["cost_center_id"]])
    current = await _current(commitment)
    if current["status"] != "closed":
        await _set(ctx, current, ZERO, status="closed")


async def _current(commitment: asyncpg.Record) -> asyncpg.Record:
    """The row as it is under the lock of its cost center."""
    row = await fetchrow("select * from fi.commitment where commitment_id = $1", commitment["commitment_id"])
    assert row is not None, "commitments are never deleted"
    return row


async def _set(ctx: Context, current: asyncpg.Record, amount: Decimal, *, status: CommitmentStatus) -> None:
    change = amount - current["amount"]
    cost_center = await fetchrow("select * from fi.cost_center where cost_center_id = $1", current["cost_center_id"])
    assert cost_center is not None, "a reference holds it"
    await budgets.commit_money(ctx, cost_center, current["fiscal_year"], change, may_exceed=True)
    await execute(_SET, current["commitment_id"], amount, status, ctx.clock())
    await _tell(ctx, current, amount=amount, change=change, status=status)


async def _tell(
    ctx: Context, row: asyncpg.Record, *, amount: Decimal, change: Decimal, status: CommitmentStatus
) -> None:
    await record(
        ctx,
        action="commitment.change",
        object_kind="ticket",
        object_id=row["source_ticket_id"],
        site_id=row["site_id"],
        details={"cost_center_id": row["cost_center_id"], "amount": str(amount), "status": status},
    )
    await publish(
        ctx,
        "FI_COMMITMENT_CHANGED",
        subject=row["cost_center_id"],
        site_id=row["site_id"],
        data=CommitmentChanged(
            commitment_id=str(row["commitment_id"]),
            cost_center_id=row["cost_center_id"],
            fiscal_year=row["fiscal_year"],
            source_kind=row["source_kind"],
            source_id=row["source_id"],
            source_ticket_id=row["source_ticket_id"],
            amount=amount,
            change=change,
            currency=row["currency"],
            status=status,
        ),
    )
