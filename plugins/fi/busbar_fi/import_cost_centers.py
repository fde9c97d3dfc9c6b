"""Import of cost centers from a table, with their hierarchy and the budget of one fiscal year each."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec

from busbar.sdk import (
    ALL_OR_NOTHING,
    CellError,
    Identifier,
    ImportReport,
    ImportRun,
    Money,
    Name,
    ReportBuilder,
    RowConverter,
    UnreadableFile,
    convert_rows,
    execute,
    fetch,
    iterate_in_thread,
    open_source,
    record_many,
    suggest_mapping,
    transaction,
)
from busbar_fi import budgets
from busbar_fi.cost_centers import DEPTH_MAX, lock_hierarchy
from busbar_fi.events import OverBudget

ROWS_MAX: Final = 20_000
"""Rows of a file; a utility has some thousand cost centers."""


class CostCenterRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a table of cost centers. One that the site has already is changed in the fields that are mapped.

    Currency and first month of the fiscal year are the parent's; without a parent, EUR and January.
    """

    cost_center_id: Identifier
    name: Name
    budget_amount: Money
    fiscal_year: Annotated[int, msgspec.Meta(ge=1900, le=2200)]
    """The year that the budget is for, and that the cost center shows."""
    responsible_manager: Name
    parent_id: Identifier | None = None
    """A cost center of the site, or of another row, before or after."""
    over_budget: OverBudget = "warn"


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    line: int
    value: CostCenterRecord


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the site has already."""

    parent_id: str | None
    currency: str
    fiscal_year_start_month: int


_FIELDS: Final = ("name", "parent_id", "responsible_manager", "fiscal_year", "over_budget")
_WRITE: Final = """
insert into fi.cost_center as old (cost_center_id, name, parent_id, responsible_manager, fiscal_year, over_budget,
    currency, fiscal_year_start_month, site_id, created_at, updated_at)
select r.*, $1, $2, $2
from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::int[], $8::text[], $9::text[], $10::int[]) r
on conflict (cost_center_id) do update set {sets}, updated_at = $2, version = old.version + 1
where ({old}) is distinct from ({new})
returning cost_center_id, xmax = 0 as created
"""
_WRITE_BUDGETS: Final = """
insert into fi.budget_year as y (cost_center_id, fiscal_year, budget_amount)
select * from unnest($1::text[], $2::int[], $3::numeric[])
on conflict (cost_center_id, fiscal_year) do update set budget_amount = excluded.budget_amount
where y.budget_amount is distinct from excluded.budget_amount
returning cost_center_id
"""


async def import_cost_centers(run: ImportRun) -> ImportReport:
    """Load a CSV, XLSX or XLS table of cost centers; see `CostCenterRecord`. Repeated, it changes only what differs.

    Raises:
        UnreadableFile: the file is not a table within the limits.
        InvalidPayload: the mapping does not fit the columns.
    """
    source = await asyncio.to_thread(open_source, run.path)
    mapping = run.mapping or suggest_mapping(CostCenterRecord, source.columns)
    converter = RowConverter(CostCenterRecord, mapping, source.columns)
    report = ReportBuilder()
    rows: list[_Row] = []
    async for batch in iterate_in_thread(convert_rows(source, converter, report, key="cost_center_id")):
        rows += [_Row(line=row.line, value=row.value) for row in batch]
        run.progress(len(batch))
        if len(rows) > ROWS_MAX:
            raise UnreadableFile(f"The table has more than {ROWS_MAX} cost centers; split it.")
    async with transaction():
        await lock_hierarchy(run.site_id)
        outcomes = await _load(run, rows, report, [name for name in _FIELDS if name in mapping.fields])
    return report.report(outcomes)


async def _load(run: ImportRun, rows: list[_Row], report: ReportBuilder, mapped: Sequence[str]) -> dict[str, int]:
    ids = [row.value.cost_center_id for row in rows]
    found = await fetch(
        "select cost_center_id, parent_id, currency, fiscal_year_start_month from fi.cost_center where site_id = $1",
        run.site_id,
    )
    known = {
        row["cost_center_id"]: _Known(
            parent_id=row["parent_id"],
            currency=row["currency"],
            fiscal_year_start_month=row["fiscal_year_start_month"],
        )
        for row in found
    }
    foreign = await fetch(
        "select cost_center_id from fi.cost_center where site_id <> $1 and cost_center_id = any($2)", run.site_id, ids
    )
    placed = _place(rows, report, known, {row["cost_center_id"] for row in foreign}, "parent_id" in mapped)
    if report.rows_rejected and run.mode == ALL_OR_NOTHING:
        return {"withheld": report.rows_accepted}
    good = [row.value for row in rows if row.value.cost_center_id in placed]
    parents = {row.parent_id for row in good if row.parent_id in known}
    await budgets.lock([*known.keys() & set(ids), *(parent for parent in parents if parent is not None)])
    return await _write(run, good, placed, mapped)


def _place(
    rows: Sequence[_Row], report: ReportBuilder, known: dict[str, _Known], foreign: set[str], moves: bool
) -> dict[str, tuple[str, int]]:
    """Currency and first month of each row that can be stored, by its id; the others are rejected with the reason."""
    left = {row.value.cost_center_id: row for row in rows}
    for row in rows:
        if row.value.cost_center_id in foreign:
            _revoke(report, left.pop(row.value.cost_center_id), "cost_center_id", "is a cost center of another site")
    # Once more after each loss, for a row may have been placed by way of one that is gone now.
    while True:
        parents = {center: each.parent_id for center, each in known.items()}
        parents |= {center: row.value.parent_id for center, row in left.items() if moves or center not in known}
        bad = {center: reason for center in left if (reason := _misplaced(center, parents, known)) is not None}
        if not bad:
            return {center: _kept_like(center, parents, known) for center in left}
        for center, reason in bad.items():
            _revoke(report, left.pop(center), "parent_id", reason)


def _misplaced(center: str, parents: dict[str, str | None], known: dict[str, _Known]) -> str | None:
    seen = [center]
    while (above := parents[seen[-1]]) is not None:
        if above not in parents:
            return "is neither a cost center of this site nor in the file, or is rejected itself"
        if above in seen or len(seen) >= DEPTH_MAX:
            return f"lies below the cost center itself, or is {DEPTH_MAX} levels deep already"
        seen.append(above)
    own = known.get(center)
    if own is not None and (own.currency, own.fiscal_year_start_month) != _kept_like(center, parents, known, own=False):
        return "has another currency or fiscal year than the cost center"
    return None


def _kept_like(
    center: str, parents: dict[str, str | None], known: dict[str, _Known], *, own: bool = True
) -> tuple[str, int]:
    """What is kept of the nearest cost center at or above that the site has already; with `own` off, only above."""
    place: str | None = center if own or parents[center] is None else parents[center]
    while place is not None:
        if place in known:
            return known[place].currency, known[place].fiscal_year_start_month
        place = parents[place]
    return "EUR", 1


def _revoke(report: ReportBuilder, row: _Row, field: str, message: str) -> None:
    report.revoke(row.line, [CellError(field=field, value=str(getattr(row.value, field) or ""), message=message)])


async def _write(
    run: ImportRun, good: Sequence[CostCenterRecord], placed: dict[str, tuple[str, int]], mapped: Sequence[str]
) -> dict[str, int]:
    written = await fetch(
        _WRITE.format(
            sets=", ".join(f"{name} = excluded.{name}" for name in mapped),
            old=", ".join(f"old.{name}" for name in mapped),
            new=", ".join(f"excluded.{name}" for name in mapped),
        ),
        run.site_id,
        run.ctx.clock(),
        [row.cost_center_id for row in good],
        *([getattr(row, name) for row in good] for name in _FIELDS),
        [placed[row.cost_center_id][0] for row in good],
        [placed[row.cost_center_id][1] for row in good],
    )
    amounts: list[Decimal] = [row.budget_amount for row in good]
    rebudgeted = await fetch(
        _WRITE_BUDGETS, [row.cost_center_id for row in good], [row.fiscal_year for row in good], amounts
    )
    created = {row["cost_center_id"] for row in written if row["created"]}
    changed = {row["cost_center_id"] for row in written} | {row["cost_center_id"] for row in rebudgeted}
    updated = changed - created
    only_budget = updated - {row["cost_center_id"] for row in written}
    await execute(
        "update fi.cost_center set version = version + 1, updated_at = $2 where cost_center_id = any($1)",
        sorted(only_budget),
        run.ctx.clock(),
    )
    await _review(run, [row for row in good if row.cost_center_id in updated])
    for action, ids in (("cost_center.create", created), ("cost_center.change", updated)):
        details: dict[str, Any] = {"import_id": run.import_id, "fields": ["budget_amount", *mapped]}
        await record_many(
            run.ctx,
            action=action,
            object_kind="cost_center",
            object_ids=sorted(ids),
            site_id=run.site_id,
            details=details,
        )
    return {"created": len(created), "updated": len(updated), "unchanged": len(good) - len(changed)}


async def _review(run: ImportRun, updated: Sequence[CostCenterRecord]) -> None:
    """Budgets that were changed, or moved, may be overspent now, or not any more."""
    years = {row.cost_center_id: row.fiscal_year for row in updated}
    rows = await fetch("select * from fi.cost_center where cost_center_id = any($1)", sorted(years))
    for row in rows:
        await budgets.review(run.ctx, row, years[row["cost_center_id"]])
