"""Tables of materials and of stock, and the real price database, come in once, completely, and say what they refuse."""

import csv
import shutil
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from busbar.sdk import Context, Importer, ImportReport, UnreadableFile, fetch, fetchval
from busbar.testing.plugins import context_of, import_file
from busbar_mm.importers import IMPORTERS
from busbar_mm.materials import MaterialFields, create
from busbar_mm.tests.conftest import ALL
from busbar_mm.tests.shared_data import shared_data
from busbar_mm.tests.work import check_books

BY_NAME = {importer.name: importer for importer in IMPORTERS}
MATERIALS: Importer = BY_NAME["mm.materials"]
STOCK: Importer = BY_NAME["mm.stock"]
DISCO: Importer = BY_NAME["mm.disco"]


async def load(ctx: Context, importer: Importer, folder: Path, *lines: str, **more: Any) -> ImportReport:
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return await import_file(ctx, importer, path, **({"site_id": "north"} | more))


def problems(report: ImportReport) -> list[tuple[int, str, str]]:
    return sorted((error.line, error.field, error.message) for error in report.errors)


async def stored(*columns: str) -> list[tuple[Any, ...]]:
    rows = await fetch(f"select {', '.join(columns)} from mm.material order by material_id")
    return [tuple(row) for row in rows]


async def make(ctx: Context, material_id: str, quantity: str = "0", site_id: str = "north", **more: Any) -> None:
    fields = MaterialFields(**({"description": "Fuse", "unit_of_measure": "EA"} | more))
    elsewhere = context_of("otto", permissions=ALL, sites=[site_id])
    await create(elsewhere, material_id, site_id=site_id, fields=fields, quantity=Decimal(quantity))


class TestATableOfMaterials:
    async def test_adds_what_is_new_and_changes_only_what_it_has_columns_for(
        self, ctx: Context, tmp_path: Path
    ) -> None:
        await make(ctx, "A", "5", unit_price=Decimal("2"), cost_center_id="CC-1")
        table = ("Material ID;description;unit of measure;reorder-level", "A;Fuse 63 A;EA;2.5", "B;Cable;m;0")
        report = await load(ctx, MATERIALS, tmp_path, *table)
        assert report.outcomes == {"created": 1, "updated": 1, "unchanged": 0}
        columns = ("material_id", "description", "quantity", "reorder_level", "unit_price", "cost_center_id", "version")
        assert await stored(*columns) == [
            ("A", "Fuse 63 A", Decimal(5), Decimal("2.5"), Decimal(2), "CC-1", 2),
            ("B", "Cable", Decimal(0), Decimal(0), None, None, 1),
        ]
        again = await load(ctx, MATERIALS, tmp_path, *table)
        assert again.outcomes == {"created": 0, "updated": 0, "unchanged": 2}
        assert await fetchval("select count(*) from core.audit where action like 'material.%'") == 1 + 2

    async def test_says_what_it_refuses_and_writes_nothing(self, ctx: Context, tmp_path: Path) -> None:
        await make(ctx, "FOREIGN", site_id="south")
        await make(ctx, "USED", "5")
        report = await load(
            ctx,
            MATERIALS,
            tmp_path,
            "material_id,description,unit_of_measure,unit_price,reorder_level,reorder_buffer",
            "GOOD,Fuse,EA,1,0,0",
            "FOREIGN,Fuse,EA,1,0,0",
            "USED,Fuse,m,1,0,0",
            "DEAR,Fuse,EA,1.00001,0,0",
            "HIGH,Fuse,EA,1,999999999999,1",
            "GOOD,Fuse,EA,1,0,0",
        )
        assert [(line, field) for line, field, _ in problems(report)] == [
            (3, "material_id"),
            (4, "unit_of_measure"),
            (5, "unit_price"),
            (6, "reorder_buffer"),
            (7, "material_id"),
        ]
        assert report.outcomes == {"withheld": 1}
        assert await stored("material_id") == [("FOREIGN",), ("USED",)]

    async def test_with_a_higher_level_leads_to_a_reorder(self, ctx: Context, tmp_path: Path) -> None:
        await make(ctx, "A", "5")
        table = ("material_id,description,unit_of_measure,reorder_level", "A,Fuse,EA,8", "NEW,Fuse,EA,8")
        await load(ctx, MATERIALS, tmp_path, *table)
        rows = await fetch("select material_id, quantity from mm.purchase_requisition")
        assert [tuple(row) for row in rows] == [("A", 3)], "a new material waits for its stock"


class TestATableOfStock:
    async def test_receives_opening_balances_and_adjusts_to_what_was_counted(
        self, ctx: Context, tmp_path: Path
    ) -> None:
        await make(ctx, "A", unit_price=Decimal(2))
        await make(ctx, "B", "10", reorder_level=Decimal(10))
        table = ("material_id,quantity,storage_location,unit_price", "A,4,,", "A,2.5,VAN,3", "B,8,,")
        report = await load(ctx, STOCK, tmp_path, *table)
        assert (report.rows_rejected, report.outcomes) == (0, {"created": 0, "updated": 3, "unchanged": 0})
        assert await stored("material_id", "quantity", "stock_value") == [
            ("A", Decimal("6.5"), Decimal("15.50")),
            ("B", Decimal(8), Decimal(0)),
        ]
        rows = await fetch("select transaction_type, quantity_change, note from mm.stock_transaction order by entry")
        assert [tuple(row) for row in rows][1:] == [
            ("receipt", 4, "Opening balance"),
            ("receipt", Decimal("2.5"), "Opening balance"),
            ("adjustment", -2, "Counted"),
        ]
        assert await fetchval("select count(*) from mm.purchase_requisition where material_id = 'B'") == 1
        again = await load(ctx, STOCK, tmp_path, *table)
        assert again.outcomes == {"created": 0, "updated": 0, "unchanged": 3}
        for material_id in ("A", "B"):
            await check_books(material_id)

    async def test_says_what_it_refuses_and_writes_nothing(self, ctx: Context, tmp_path: Path) -> None:
        await make(ctx, "A")
        await make(ctx, "FOREIGN", site_id="south")
        table = ("material_id,quantity,storage_location", "A,4,", "A,5,MAIN", "FOREIGN,1,", "NOBODY,1,", "A,-1,VAN")
        report = await load(ctx, STOCK, tmp_path, *table)
        assert [(line, field) for line, field, _ in problems(report)] == [
            (3, "material_id"),
            (4, "material_id"),
            (5, "material_id"),
            (6, "quantity"),
        ]
        assert await fetchval("select count(*) from mm.stock_transaction") == 0
        partly = await load(ctx, STOCK, tmp_path, *table, mode="partial")
        assert (partly.rows_accepted, partly.outcomes["updated"]) == (1, 1)


class TestThePriceDatabase:
    async def test_comes_in_as_priced_materials_with_ids_that_stay(self, ctx: Context) -> None:
        folder = shared_data("nrel-disco-materials")
        report = await import_file(ctx, DISCO, folder, site_id="north")
        assert (report.rows_read, report.outcomes) == (243, {"created": 243, "updated": 0, "unchanged": 0})
        rows = await fetch("select unit_of_measure, count(*) from mm.material group by 1 order by 1 desc")
        assert [tuple(row) for row in rows] == [("m", 128), ("EA", 115)]
        prices = sorted(
            Decimal(row.get("cost_per_m") or row["cost"]).quantize(Decimal("0.0001"), ROUND_HALF_UP)
            for name in ("lines", "transformers", "control_changes", "voltage_regulators")
            for row in csv.DictReader((folder / f"{name}.csv").open())
        )
        assert sorted(price for (price,) in await stored("unit_price")) == prices
        (line,) = await fetch("select * from mm.material where material_id = 'LINE-NEW-UG-1P-4.157KV-151A'")
        assert (line["description"], line["unit_price"], line["currency"]) == (
            "Line, underground, 1-phase 4.157 kV 151 A",
            Decimal("1115.4856"),
            "USD",
        )
        again = await import_file(ctx, DISCO, folder, site_id="north")
        assert again.outcomes == {"created": 0, "updated": 0, "unchanged": 243}
        assert await fetchval("select count(*) from core.ticket") == 0

    async def test_loaded_again_changes_only_what_differs(self, ctx: Context, tmp_path: Path) -> None:
        folder = tmp_path / "disco"
        shutil.copytree(shared_data("nrel-disco-materials"), folder)
        await import_file(ctx, DISCO, folder, site_id="north")
        changed = folder / "control_changes.csv"
        changed.write_text(changed.read_text().replace("controller,15000,", "controller,15500.50,", 1))
        report = await import_file(ctx, DISCO, folder, site_id="north")
        assert report.outcomes == {"created": 0, "updated": 1, "unchanged": 242}
        sql = "select unit_price from mm.material where version = 2"
        assert await fetchval(sql) == Decimal("15500.50")

    @pytest.mark.parametrize("damage", ["a word for a price", "no file", "another column"])
    async def test_that_is_damaged_is_refused_as_a_whole(self, ctx: Context, tmp_path: Path, damage: str) -> None:
        folder = tmp_path / "disco"
        shutil.copytree(shared_data("nrel-disco-materials"), folder)
        table = folder / "transformers.csv"
        if damage == "no file":
            table.unlink()
        else:
            old, new = (",6300,", ",dear,") if damage == "a word for a price" else ("rated_kVA", "rated_MVA")
            table.write_text(table.read_text().replace(old, new, 1))
        with pytest.raises(UnreadableFile, match=r"transformers\.csv"):
            await import_file(ctx, DISCO, folder, site_id="north")
        assert await stored("material_id") == []

    async def test_offers_its_fields_to_a_mapping_of_tables_only(self) -> None:
        fields = [field.encode_name for field in msgspec.structs.fields(MATERIALS.target)]
        assert fields[:3] == ["material_id", "description", "unit_of_measure"]
        assert DISCO.target is None
