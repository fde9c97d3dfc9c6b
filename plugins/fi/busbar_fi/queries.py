"""Reading cost centers, budgets, commitments and entries, limited to the actor's sites at which finance is enabled."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from busbar.sdk import (
    Context,
    NotFound,
    Page,
    SortColumn,
    Where,
    columns_of,
    fetch,
    fetch_page,
    fetchrow,
    module_scope,
    page_request,
)


class CostCenterView(msgspec.Struct, frozen=True, kw_only=True):
    """A cost center, with the budget of the fiscal year it shows."""

    cost_center_id: str
    name: str
    budget_amount: Decimal
    fiscal_year: int
    responsible_manager: str
    parent_id: str | None
    fiscal_year_start_month: int
    currency: str
    over_budget: str
    is_default: bool
    status: str
    site: str
    version: int
    created_at: datetime
    updated_at: datetime


class BudgetView(msgspec.Struct, frozen=True, kw_only=True):
    """A fiscal year of a cost center: its own costs, and those with everything below it."""

    fiscal_year: int
    budget_amount: Decimal | None
    """None where the year has no budget; then nothing is checked."""
    actual_amount: Decimal
    committed_amount: Decimal
    actual_with_below: Decimal
    committed_with_below: Decimal
    available: Decimal | None
    """The budget less both `…_with_below`; negative when overspent."""


class CommitmentView(msgspec.Struct, frozen=True, kw_only=True):
    """Money that is set aside."""

    commitment_id: UUID
    source_kind: str
    source_id: str
    source_ticket_id: str
    cost_center_id: str
    fiscal_year: int
    original_amount: Decimal
    amount: Decimal
    """What is set aside now."""
    currency: str
    status: str
    site: str
    created_at: datetime
    updated_at: datetime


class EntryView(msgspec.Struct, frozen=True, kw_only=True):
    """A cost entry; a reversal or a return has a negative amount."""

    entry_id: UUID
    kind: str
    ticket_id: str | None
    cost_center_id: str
    fiscal_year: int
    posting_date: date
    cost_type: str
    amount: Decimal
    currency: str
    description: str
    asset_id: str | None
    reverses: UUID | None
    source_event_type: str | None
    source_event_id: UUID | None
    posted_by: str
    site: str
    created_at: datetime


CENTER_SORT: Final = {
    "cost_center_id": SortColumn(sql="cost_center_id", type=str),
    "name": SortColumn(sql="name", type=str),
    "created_at": SortColumn(sql="created_at", type=datetime),
}
COMMITMENT_SORT: Final = {
    "created_at": SortColumn(sql="created_at", type=datetime),
    "amount": SortColumn(sql="amount", type=Decimal),
    "commitment_id": SortColumn(sql="commitment_id", type=UUID),
}
ENTRY_SORT: Final = {
    "created_at": SortColumn(sql="created_at", type=datetime),
    "posting_date": SortColumn(sql="posting_date", type=date),
    "amount": SortColumn(sql="amount", type=Decimal),
    "entry_id": SortColumn(sql="entry_id", type=UUID),
}


_CENTER: Final = columns_of(CostCenterView)
# The columns of the list's order and conditions are those of the cost center; the budget is beside them.
_CENTERS: Final = """(
    select c.*, coalesce(y.budget_amount, 0) as budget_amount from fi.cost_center c
    left join fi.budget_year y on y.cost_center_id = c.cost_center_id and y.fiscal_year = c.fiscal_year
) as center"""
_COMMITMENT: Final = columns_of(CommitmentView)
_ENTRY: Final = columns_of(EntryView)
_BUDGETS: Final = """
with recursive below as (
    select cost_center_id, 1 as depth from fi.cost_center where cost_center_id = $1
    union all
    select c.cost_center_id, below.depth + 1 from fi.cost_center c join below on c.parent_id = below.cost_center_id
    where below.depth < 100
), year as (
    select y.fiscal_year, sum(y.actual_amount) as actual_with_below, sum(y.committed_amount) as committed_with_below
    from below join fi.budget_year y using (cost_center_id) group by y.fiscal_year
)
select year.fiscal_year, y.budget_amount, coalesce(y.actual_amount, 0) as actual_amount,
    coalesce(y.committed_amount, 0) as committed_amount, year.actual_with_below, year.committed_with_below,
    y.budget_amount - year.actual_with_below - year.committed_with_below as available
from year left join fi.budget_year y on y.cost_center_id = $1 and y.fiscal_year = year.fiscal_year
order by year.fiscal_year
"""


async def at_sites(ctx: Context, site: str | None) -> Where:
    """The condition to begin a list with: what is at the actor's sites, or at this one of them."""
    return Where("site_id = any($1)", await module_scope(ctx, "fi", site))


async def get_cost_center(ctx: Context, cost_center_id: str) -> CostCenterView:
    """One cost center.

    Raises:
        NotFound: there is no such cost center at the actor's sites.
    """
    row = await fetchrow(
        f"select {_CENTER} from {_CENTERS} where cost_center_id = $1 and site_id = any($2)",
        cost_center_id,
        await module_scope(ctx, "fi"),
    )
    if row is None:
        raise NotFound(f"There is no cost center {cost_center_id}.")
    return CostCenterView(**row)


async def budgets_of(ctx: Context, cost_center_id: str) -> tuple[BudgetView, ...]:
    """All fiscal years of a cost center in which it or one below it has a budget or costs, in order.

    Raises:
        NotFound: there is no such cost center at the actor's sites.
    """
    await get_cost_center(ctx, cost_center_id)
    return tuple(BudgetView(**row) for row in await fetch(_BUDGETS, cost_center_id))


async def get_entry(ctx: Context, entry_id: UUID) -> EntryView:
    """One cost entry.

    Raises:
        NotFound: there is no such entry at the actor's sites.
    """
    row = await fetchrow(
        f"select {_ENTRY} from fi.cost_entry where entry_id = $1 and site_id = any($2)",
        entry_id,
        await module_scope(ctx, "fi"),
    )
    if row is None:
        raise NotFound(f"There is no cost entry {entry_id}.")
    return EntryView(**row)


async def list_cost_centers(where: Where, *, limit: int, cursor: str | None, sort: str | None) -> Page[CostCenterView]:
    """A page of cost centers, by id unless `sort` says otherwise."""
    asked = page_request(
        limit=limit, cursor=cursor, sort=sort, columns=CENTER_SORT, default="cost_center_id", key="cost_center_id"
    )
    return await fetch_page(asked, where, columns=_CENTER, source=_CENTERS, to_item=lambda row: CostCenterView(**row))


async def list_commitments(where: Where, *, limit: int, cursor: str | None, sort: str | None) -> Page[CommitmentView]:
    """A page of commitments, the latest first unless `sort` says otherwise."""
    asked = page_request(
        limit=limit, cursor=cursor, sort=sort, columns=COMMITMENT_SORT, default="-created_at", key="commitment_id"
    )
    return await _page(asked, where, _COMMITMENT, "fi.commitment", CommitmentView)


async def list_entries(where: Where, *, limit: int, cursor: str | None, sort: str | None) -> Page[EntryView]:
    """A page of cost entries, the latest first unless `sort` says otherwise."""
    asked = page_request(
        limit=limit, cursor=cursor, sort=sort, columns=ENTRY_SORT, default="-created_at", key="entry_id"
    )
    return await _page(asked, where, _ENTRY, "fi.cost_entry", EntryView)


async def _page(asked: Any, where: Where, columns: str, source: str, view: Any) -> Any:
    return await fetch_page(asked, where, columns=columns, source=source, to_item=lambda row: view(**row))
