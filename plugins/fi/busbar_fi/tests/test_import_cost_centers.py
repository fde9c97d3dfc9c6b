"""Cost centers from a file: hierarchy in any order, bad rows named, and repeating it changes only what differs."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import xlsxwriter

from busbar.sdk import PARTIAL, Context, fetch
from busbar.testing.plugins import context_of, import_file
from busbar_fi.cost_centers import NewCostCenter, create
from busbar_fi.importers import IMPORTERS
from busbar_fi.tests.conftest import ALL

HEAD = "cost_center_id,name,budget_amount,fiscal_year,responsible_manager,parent_id,over_budget\n"
GOOD = HEAD + ("C-2,Lines,500.50,2027,Bea,C-1,stop\nC-1,Grid,2000.00,2027,Anna,,\nC-3,Stations,700,2027,Carl,C-1,off\n")


async def load(ctx: Context, folder: Path, text: str, **more: Any) -> Any:
    file = folder / "centers.csv"
    file.write_text(text)
    return await import_file(ctx, IMPORTERS[0], file, site_id="north", **more)


async def stored() -> list[tuple[Any, ...]]:
    rows = await fetch(
        "select c.cost_center_id, name, parent_id, over_budget, version, budget_amount::text from fi.cost_center c "
        "join fi.budget_year y using (cost_center_id, fiscal_year) order by 1"
    )
    return [tuple(row) for row in rows]


class TestImport:
    async def test_adds_children_before_their_parents(self, ctx: Context, tmp_path: Path) -> None:
        report = await load(ctx, tmp_path, GOOD)
        assert report.outcomes == {"created": 3, "updated": 0, "unchanged": 0}
        assert await stored() == [
            ("C-1", "Grid", None, "warn", 1, "2000.00"),
            ("C-2", "Lines", "C-1", "stop", 1, "500.50"),
            ("C-3", "Stations", "C-1", "off", 1, "700.00"),
        ]

    async def test_repeated_changes_only_what_differs(self, ctx: Context, tmp_path: Path) -> None:
        await load(ctx, tmp_path, GOOD)
        before = await stored()
        again = await load(ctx, tmp_path, GOOD)
        assert (again.outcomes, await stored()) == ({"created": 0, "updated": 0, "unchanged": 3}, before)
        report = await load(ctx, tmp_path, GOOD.replace("500.50", "501.00").replace("Stations", "Substations"))
        assert report.outcomes == {"created": 0, "updated": 2, "unchanged": 1}
        assert [(row[0], row[4], row[5]) for row in await stored()] == [
            ("C-1", 1, "2000.00"),
            ("C-2", 2, "501.00"),
            ("C-3", 2, "700.00"),
        ]

    async def test_rejects_what_cannot_be_stored_and_all_that_hangs_on_it(self, ctx: Context, tmp_path: Path) -> None:
        new = NewCostCenter(
            cost_center_id="FOREIGN", name="x", budget_amount=Decimal(1), fiscal_year=2027, responsible_manager="x"
        )
        await create(context_of("otto", permissions=ALL, sites=["south"]), new, site_id="south")
        text = GOOD + (
            "C-4,Ghost child,1.00,2027,x,GHOST,\n"
            "C-5,Below it,1.00,2027,x,C-4,\n"
            "FOREIGN,Taken,1.00,2027,x,,\n"
            "C-6,Round,1.00,2027,x,C-7,\n"
            "C-7,About,1.00,2027,x,C-6,\n"
            "C-8,Money,1.001,2027,x,,\n"
            "C-9,Minus,-5,2027,x,,\n"
        )
        withheld = await load(ctx, tmp_path, text)
        assert (withheld.outcomes, await _ids()) == ({"withheld": 3}, ["FOREIGN"])
        report = await load(ctx, tmp_path, text, mode=PARTIAL)
        assert report.outcomes == {"created": 3, "updated": 0, "unchanged": 0}
        assert sorted((error.line, error.field) for error in report.errors) == [
            (5, "parent_id"),
            (6, "parent_id"),
            (7, "cost_center_id"),
            (8, "parent_id"),
            (9, "parent_id"),
            (10, "budget_amount"),
            (11, "budget_amount"),
        ]
        assert await _ids() == ["C-1", "C-2", "C-3", "FOREIGN"]

    async def test_reads_workbooks_and_keeps_the_parents_currency(self, ctx: Context, tmp_path: Path) -> None:
        new = NewCostCenter(
            cost_center_id="TOP", name="x", budget_amount=Decimal(1), fiscal_year=2027, responsible_manager="x",
            currency="CHF", fiscal_year_start_month=4,
        )  # fmt: skip
        await create(ctx, new, site_id="north")
        file = tmp_path / "centers.xlsx"
        with xlsxwriter.Workbook(str(file)) as book:
            sheet = book.add_worksheet()
            sheet.write_row(0, 0, HEAD.strip().split(","))
            sheet.write_row(1, 0, ["C-1", "Grid", 1234.56, 2027, "Anna", "TOP", "warn"])
        report = await import_file(ctx, IMPORTERS[0], file, site_id="north")
        assert report.outcomes == {"created": 1, "updated": 0, "unchanged": 0}
        (row,) = await fetch(
            "select currency, fiscal_year_start_month, budget_amount::text from fi.cost_center "
            "join fi.budget_year using (cost_center_id) where cost_center_id = 'C-1'"
        )
        assert tuple(row) == ("CHF", 4, "1234.56")


async def _ids() -> list[str]:
    return [row[0] for row in await fetch("select cost_center_id from fi.cost_center order by 1")]
