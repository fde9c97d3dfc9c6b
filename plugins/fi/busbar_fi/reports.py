"""Reports: what was spent, by cost center, type, month, asset or ticket; sums are exact to the cent (SPEC R4)."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from busbar.sdk import Context, FieldError, InvalidPayload, Where, fetch, module_scope

GroupBy = Literal["cost_center", "cost_type", "period", "asset", "ticket"]
ROWS_SHOWN_MAX: Final = 1_000
"""Rows of an answer in JSON; an export has all of them."""
ROWS_EXPORTED_MAX: Final = 100_000


class CostRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a report, in one currency. Budget columns are filled by cost center and fiscal year only."""

    key: str | None
    """The cost center, type, month (2027-03), asset or ticket; null for costs that have none."""
    label: str
    currency: str
    entries: int
    amount: Decimal
    """All entries less what was reversed or returned."""
    capex: Decimal
    opex: Decimal
    parent: str | None = None
    amount_with_below: Decimal | None = None
    """With everything below the cost center."""
    committed_with_below: Decimal | None = None
    budget_amount: Decimal | None = None
    available: Decimal | None = None
    """The budget less actual costs and commitments, with everything below; whatever other filters say."""


class CostTotal(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of all entries of a currency that a report is about."""

    currency: str
    entries: int
    amount: Decimal


class CostReport(msgspec.Struct, frozen=True, kw_only=True):
    """A report, the largest amounts first; months and cost centers in their order."""

    by: GroupBy
    fiscal_year: int | None
    rows: tuple[CostRow, ...]
    rows_total: int
    """How many there are; an answer shows at most 1,000 of them."""
    totals: tuple[CostTotal, ...]


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries a report is about."""

    site: str | None = None
    cost_center_id: str | None = None
    """With everything below it."""
    fiscal_year: int | None = None
    first_day: date | None = None
    last_day: date | None = None
    """Inclusive."""
    cost_type: str | None = None
    asset_id: str | None = None
    ticket_id: str | None = None


_KEYS: Final[dict[GroupBy, str]] = {
    "cost_type": "e.cost_type",
    "period": "to_char(e.posting_date, 'YYYY-MM')",
    "asset": "e.asset_id",
    "ticket": "e.ticket_id",
}
_BELOW_ASKED: Final = """
e.cost_center_id in (
    with recursive below as (
        select cost_center_id, 1 as depth from fi.cost_center where cost_center_id = {}
        union all
        select c.cost_center_id, below.depth + 1
        from fi.cost_center c join below on c.parent_id = below.cost_center_id where below.depth < 100
    )
    select cost_center_id from below
)"""
_SUMS: Final = """count(*)::int as entries, sum(e.amount) as amount,
    coalesce(sum(e.amount) filter (where e.cost_type = 'CAPEX'), 0) as capex,
    coalesce(sum(e.amount) filter (where e.cost_type = 'OPEX'), 0) as opex"""
# Every cost center of the sites has a line, also one without costs: its budget and what is below it count.
_BY_CENTER: Final = """
with recursive own as (
    select e.cost_center_id, {sums} from fi.cost_entry e where {where} group by e.cost_center_id
), center as (
    select e.* from fi.cost_center e where {centers}
), below as (
    select cost_center_id as top_id, cost_center_id, 1 as depth from center
    union all
    select below.top_id, c.cost_center_id, below.depth + 1
    from below join fi.cost_center c on c.parent_id = below.cost_center_id where below.depth < 100
), with_below as (
    select below.top_id, sum(own.amount) as amount, sum(y.actual_amount) as actual, sum(y.committed_amount) as committed
    from below left join own using (cost_center_id)
        left join fi.budget_year y on y.cost_center_id = below.cost_center_id and y.fiscal_year = {year}
    group by below.top_id
)
select c.cost_center_id as key, c.name as label, c.currency, coalesce(own.entries, 0) as entries,
    coalesce(own.amount, 0) as amount, coalesce(own.capex, 0) as capex, coalesce(own.opex, 0) as opex,
    c.parent_id as parent, coalesce(w.amount, 0) as amount_with_below,
    case when {year} is not null then coalesce(w.committed, 0) end as committed_with_below, y.budget_amount,
    y.budget_amount - coalesce(w.actual, 0) - coalesce(w.committed, 0) as available
from center c left join own using (cost_center_id) join with_below w on w.top_id = c.cost_center_id
    left join fi.budget_year y on y.cost_center_id = c.cost_center_id and y.fiscal_year = {year}
order by c.cost_center_id limit {limit}
"""


async def costs(ctx: Context, by: GroupBy, filters: Filters, *, rows_max: int = ROWS_SHOWN_MAX) -> CostReport:
    """Sum the entries up.

    Raises:
        NotFound: the asked site is not the actor's, or lacks finance.
        InvalidPayload: the last day lies before the first.
    """
    if filters.first_day and filters.last_day and filters.last_day < filters.first_day:
        problem = FieldError(field="until", message="lies before from")
        raise InvalidPayload("The period has no day in it.", errors=[problem])
    where = await _where(ctx, filters)
    totals = await fetch(
        f"select e.currency, count(*)::int as entries, sum(e.amount) as amount from fi.cost_entry e where {where.sql} "
        "group by e.currency order by e.currency",
        *where.values,
    )
    rows, rows_total = await (
        _by_center(ctx, filters, rows_max) if by == "cost_center" else _grouped(by, where, rows_max)
    )
    return CostReport(
        by=by,
        fiscal_year=filters.fiscal_year,
        rows=tuple(rows),
        rows_total=rows_total,
        totals=tuple(CostTotal(**row) for row in totals),
    )


async def _where(ctx: Context, filters: Filters) -> Where:
    where = Where("e.site_id = any($1)", await module_scope(ctx, "fi", filters.site))
    where.add(_BELOW_ASKED, filters.cost_center_id)
    where.add("e.fiscal_year = {}", filters.fiscal_year)
    where.add("e.posting_date >= {}", filters.first_day)
    where.add("e.posting_date <= {}", filters.last_day)
    where.add("e.cost_type = {}", filters.cost_type)
    where.add("e.asset_id = {}", filters.asset_id)
    where.add("e.ticket_id = {}", filters.ticket_id)
    return where


async def _grouped(by: GroupBy, where: Where, rows_max: int) -> tuple[Sequence[CostRow], int]:
    key = _KEYS[by]
    order = "key" if by in ("period", "cost_type") else "amount desc, key"
    rows = await fetch(
        f"select {key} as key, e.currency, {_SUMS}, count(*) over ()::int as rows_total from fi.cost_entry e "
        f"where {where.sql} group by 1, e.currency order by {order}, e.currency limit {rows_max:d}",
        *where.values,
    )
    return [_row(row) for row in rows], rows[0]["rows_total"] if rows else 0


def _row(row: Any) -> CostRow:
    values = {name: value for name, value in row.items() if name != "rows_total"}
    return CostRow(**values, label=row["key"] or "")


async def _by_center(ctx: Context, filters: Filters, rows_max: int) -> tuple[Sequence[CostRow], int]:
    where = await _where(ctx, filters)
    where.values.append(filters.fiscal_year)
    centers = "e.site_id = any($1)" + (
        f" and {_BELOW_ASKED.replace('{}', '$2')}" if filters.cost_center_id is not None else ""
    )
    sql = _BY_CENTER.format(
        sums=_SUMS, where=where.sql, centers=centers, year=f"${len(where.values)}::int", limit=rows_max
    )
    rows = await fetch(sql, *where.values)
    counted = Where("e.site_id = any($1)", where.values[0])
    counted.add(_BELOW_ASKED, filters.cost_center_id)
    (total,) = await fetch(
        f"select count(*)::int as rows_total from fi.cost_center e where {counted.sql}", *counted.values
    )
    return [CostRow(**row) for row in rows], total["rows_total"]
