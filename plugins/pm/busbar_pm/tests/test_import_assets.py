"""Tables of assets and SimBench grids come in completely, once, and say what they refuse."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from busbar.sdk import Context, Importer, ImportReport, Mapping, NotFound, UnreadableFile, fetch, fetchval
from busbar.testing.plugins import context_of, import_file
from busbar_pm.assets import DEPTH_MAX, AssetFields, create
from busbar_pm.importers import IMPORTERS
from busbar_pm.tests.shared_data import shared_data

BY_NAME = {importer.name: importer for importer in IMPORTERS}
ASSETS: Importer = BY_NAME["pm.assets"]
SIMBENCH: Importer = BY_NAME["pm.simbench"]


async def load(ctx: Context, folder: Path, *lines: str, **more: Any) -> ImportReport:
    path = folder / "assets.csv"
    path.write_text("\n".join(lines) + "\n")
    return await import_file(ctx, ASSETS, path, **({"site_id": "north"} | more))


def problems(report: ImportReport) -> list[tuple[int, str, str]]:
    return sorted((error.line, error.field, error.message) for error in report.errors)


async def stored(*columns: str) -> list[tuple[Any, ...]]:
    rows = await fetch(f"select {', '.join(columns)} from pm.asset order by asset_id")
    return [tuple(row) for row in rows]


class TestATableOfAssets:
    async def test_is_read_whatever_the_order_and_the_dialect(self, ctx: Context, tmp_path: Path) -> None:
        report = await load(
            ctx,
            tmp_path,
            "Asset ID;Asset-Type;NAME;parent id;latitude;installation_date;customers_served",
            "B;feeder;Feeder Süd;A;54.25;2001-02-03;12",
            "A;substation;Umspannwerk;;;;",
        )
        assert (report.rows_read, report.rows_rejected, report.outcomes["created"]) == (2, 0, 2)
        assert await stored("asset_id", "parent_id", "latitude", "installation_date::text", "customers_served") == [
            ("A", None, None, None, 0),
            ("B", "A", 54.25, "2001-02-03", 12),
        ]

    async def test_can_be_mapped_and_converted(self, ctx: Context, tmp_path: Path) -> None:
        mapping: dict[str, Any] = {
            "asset_id": {"column": "Nr", "transform": {"kind": "case", "to": "upper"}},
            "asset_type": {"column": "Art", "transform": {"kind": "values", "values": {"Trafo": "transformer"}}},
            "name": {"column": "Bezeichnung"},
            "voltage_kv": {"column": "Volt", "transform": {"kind": "number", "thousands": ".", "factor": "0.001"}},
            "installation_date": {"column": "Bau", "transform": {"kind": "date", "patterns": ["%d.%m.%Y"]}},
            "location": {"constant": "Netz Nord"},
        }
        report = await load(
            ctx,
            tmp_path,
            "Nr;Art;Bezeichnung;Volt;Bau",
            "t1;Trafo;Ortsnetz 1;20.000;01.05.1999",
            mapping=rules(mapping),
        )
        assert report.rows_rejected == 0
        columns = ("asset_id", "asset_type", "voltage_kv", "installation_date::text", "location")
        assert await stored(*columns) == [("T1", "transformer", 20.0, "1999-05-01", "Netz Nord")]

    async def test_changes_only_what_it_has_columns_for(self, ctx: Context, tmp_path: Path) -> None:
        fields = AssetFields(
            asset_type="feeder", name="Old", location="Husum", voltage_kv=20, attributes={"length_km": 3.5}
        )
        await create(ctx, asset_id="F1", site_id="north", fields=fields)
        header = "asset_id,asset_type,name,customers_served"
        report = await load(ctx, tmp_path, header, "F1,feeder,New,7", "F2,feeder,Another,8")
        assert report.outcomes == {"created": 1, "updated": 1, "unchanged": 0}
        columns = ("name", "location", "voltage_kv", "attributes", "customers_served", "version")
        assert (await stored(*columns))[0] == ("New", "Husum", 20.0, '{"length_km": 3.5}', 7, 2)
        again = await load(ctx, tmp_path, header, "F1,feeder,New,7", "F2,feeder,Another,8")
        assert again.outcomes == {"created": 0, "updated": 0, "unchanged": 2}
        assert [row[0] for row in await stored("version")] == [2, 1]

    async def test_leaves_an_audit_entry_for_each_asset_it_touches(self, ctx: Context, tmp_path: Path) -> None:
        await load(ctx, tmp_path, "asset_id,asset_type,name", "A,feeder,One", "B,feeder,Two")
        await load(ctx, tmp_path, "asset_id,asset_type,name", "A,feeder,One", "B,feeder,Zwei")
        rows = await fetch(
            "select action, object_id, actor_name from core.audit where object_kind = 'asset' order by 2, 1"
        )
        assert [tuple(row) for row in rows] == [
            ("asset.create", "A", "erna"),
            ("asset.change", "B", "erna"),
            ("asset.create", "B", "erna"),
        ]


DIRTY: Sequence[str] = (
    "asset_id,asset_type,name,parent_id,latitude,customers_served",
    "GOOD,substation,Fine,,54,10",
    "CHILD,feeder,Fine too,GOOD,,",
    "TYPE,spaceship,Unknown type,,,",
    "LAT,feeder,Beyond the pole,,91,-4",
    "ORPHAN,feeder,No such parent,NOBODY,,",
    "BELOW,feeder,Child of a rejected one,ORPHAN,,",
    "GOOD,feeder,Repeated,,,",
    "RING1,feeder,Circle,RING2,,",
    "RING2,feeder,Circle,RING1,,",
    ",feeder,No id,,,",
    "SHORT,feeder",
    "THEIRS,feeder,At another site,,,",
    "CHILD2,feeder,Fine as well,CHILD,,",
)
BAD_LINES = {4, 5, 6, 7, 8, 9, 10, 11, 12, 13}


class TestADirtyTable:
    @pytest.fixture(autouse=True)
    async def somebody_elses_asset(self, ctx: Context) -> None:
        theirs = AssetFields(asset_type="pump", name="Theirs")
        south = context_of("susi", permissions=["pm.write"], sites=["south"])
        await create(south, asset_id="THEIRS", site_id="south", fields=theirs)

    async def test_loses_its_bad_rows_in_partial_mode(self, ctx: Context, tmp_path: Path) -> None:
        report = await load(ctx, tmp_path, *DIRTY, mode="partial")
        assert (report.rows_read, report.rows_accepted, report.rows_rejected) == (13, 3, 10)
        assert {error.line for error in report.errors} == BAD_LINES
        assert report.outcomes == {"created": 3, "updated": 0, "unchanged": 0}
        assert await stored("asset_id", "site_id", "name") == [
            ("CHILD", "north", "Fine too"),
            ("CHILD2", "north", "Fine as well"),
            ("GOOD", "north", "Fine"),
            ("THEIRS", "south", "Theirs"),
        ]

    async def test_is_refused_as_a_whole_otherwise(self, ctx: Context, tmp_path: Path) -> None:
        report = await load(ctx, tmp_path, *DIRTY)
        assert (report.rows_read, report.rows_accepted, report.rows_rejected) == (13, 3, 10)
        assert report.outcomes == {"withheld": 3}
        assert await stored("asset_id") == [("THEIRS",)]

    async def test_says_what_is_wrong_with_each_row(self, ctx: Context, tmp_path: Path) -> None:
        said = problems(await load(ctx, tmp_path, *DIRTY, mode="partial"))
        ring = f"is rejected itself, lies below the asset, or is {DEPTH_MAX} levels deep already"
        assert said == [
            (4, "asset_type", "is not a known type of asset"),
            (5, "customers_served", "must be at least 0"),
            (5, "latitude", "must be at most 90.0"),
            (6, "parent_id", "is neither an asset of this site nor in the file"),
            (7, "parent_id", ring),
            (8, "asset_id", "is in line 2 already"),
            (9, "parent_id", ring),
            (10, "parent_id", ring),
            (11, "asset_id", "is missing"),
            (12, "", "has 2 cells, the header has 6"),
            (13, "asset_id", "is the id of an asset at another site"),
        ]


class TestTheHierarchy:
    async def test_takes_no_circle_through_assets_that_are_there(self, ctx: Context, tmp_path: Path) -> None:
        header = "asset_id,asset_type,name,parent_id"
        await load(ctx, tmp_path, header, "A,feeder,A,", "B,feeder,B,A", "C,feeder,C,B")
        report = await load(ctx, tmp_path, header, "A,feeder,A,C", mode="partial")
        assert problems(report)[0][:2] == (2, "parent_id")
        assert await stored("asset_id", "parent_id") == [("A", None), ("B", "A"), ("C", "B")]

    async def test_can_be_turned_upside_down_in_one_file(self, ctx: Context, tmp_path: Path) -> None:
        header = "asset_id,asset_type,name,parent_id"
        await load(ctx, tmp_path, header, "A,feeder,A,", "B,feeder,B,A", "C,feeder,C,B")
        report = await load(ctx, tmp_path, header, "A,feeder,A,B", "B,feeder,B,C", "C,feeder,C,")
        assert (report.rows_rejected, report.outcomes["updated"]) == (0, 3)
        assert await stored("asset_id", "parent_id") == [("A", "B"), ("B", "C"), ("C", None)]

    async def test_ends_at_the_deepest_level(self, ctx: Context, tmp_path: Path) -> None:
        chain = [f"N{n:03},feeder,N,{f'N{n - 1:03}' if n > 1 else ''}" for n in range(1, DEPTH_MAX + 3)]
        report = await load(ctx, tmp_path, "asset_id,asset_type,name,parent_id", *chain, mode="partial")
        assert (report.rows_accepted, report.rows_rejected) == (DEPTH_MAX, 2)
        more = await load(ctx, tmp_path, "asset_id,asset_type,name,parent_id", f"X,feeder,X,N{DEPTH_MAX:03}")
        assert more.rows_rejected == 1
        fits = await load(ctx, tmp_path, "asset_id,asset_type,name,parent_id", f"X,feeder,X,N{DEPTH_MAX - 1:03}")
        assert fits.rows_rejected == 0


class TestWhoMayImport:
    async def test_not_at_another_site(self, ctx: Context, tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            await load(ctx, tmp_path, "asset_id,asset_type,name", "A,feeder,A", site_id="south")
        assert await stored("asset_id") == []

    async def test_the_job_tells_of_a_file_that_is_no_table(self, ctx: Context, tmp_path: Path) -> None:
        with pytest.raises(UnreadableFile):
            await load(ctx, tmp_path, "")
        (job,) = await fetch("select state, failure, rows_read from core.import_job")
        assert tuple(job) == ("failed", "The file has no header: it is empty.", 0)


class TestASimBenchGrid:
    @pytest.mark.slow
    async def test_comes_in_completely_and_only_once(self, ctx: Context) -> None:
        folder = shared_data("simbench-grid")
        begun = time.monotonic()
        report = await import_file(ctx, SIMBENCH, folder, site_id="north")
        assert time.monotonic() - begun < 60
        assert report.outcomes == {"created": 84_788, "updated": 0, "unchanged": 0}
        counted = await fetch("select asset_type, count(*) from pm.asset group by 1")
        assert {row[0]: row[1] for row in counted} == {
            "network": 3,
            "substation": 41,
            "transformer": 686,
            "feeder": 264,
            "line": 34_606,
            "switch": 13_125,
            "service_point": 36_063,
        }
        roots = "select sum(customers_served) from pm.asset where parent_id is null"
        assert await fetchval(roots) == 36_063
        again = await import_file(ctx, SIMBENCH, folder, site_id="north")
        assert again.outcomes == {"created": 0, "updated": 0, "unchanged": 84_788}

    async def test_that_is_incomplete_writes_nothing_and_says_why(self, ctx: Context, tmp_path: Path) -> None:
        with pytest.raises(UnreadableFile, match=r"Node_physical\.csv is not there"):
            await import_file(ctx, SIMBENCH, tmp_path, site_id="north")
        assert await stored("asset_id") == []
        assert "Node_physical.csv" in await fetchval("select failure from core.import_job")


def rules(fields: dict[str, Any]) -> Mapping:
    return msgspec.convert({"fields": fields}, Mapping)
