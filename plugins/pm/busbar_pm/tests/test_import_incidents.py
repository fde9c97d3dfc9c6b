"""Disturbance reports become incidents with tickets; loaded again, they add nothing."""

from pathlib import Path

import pytest

from busbar.sdk import Context, Identifier, UnreadableFile, fetch, fetchval
from busbar.testing.plugins import import_file
from busbar_pm.import_incidents import area_id
from busbar_pm.importers import IMPORTERS
from busbar_pm.tests.shared_data import shared_data
from busbar_pm.tests.test_oe417 import HEADER

OE417 = next(importer for importer in IMPORTERS if importer.name == "pm.oe417")
GOOD = "E1,2022-01-02T00:00:00,2022-01-02T06:30:00,,Ohio: Franklin County;,RF,Loss,Severe Weather,120,60000"
OPEN = "E2,2022-03-02T00:00:00,,,Ohio: Franklin County;,RF,Watch,Suspicious Activity,0,0"
FUTURE = "E3,2222-01-02T00:00:00,,,Utah,WECC,c,Theft,0,0"
BAD = "E4,yesterday,,,,RF,c,Theft,lots,0"


def write(folder: Path, *lines: str) -> Path:
    path = folder / "report.csv"
    path.write_text("\n".join((HEADER, *lines)) + "\n")
    return path


class TestTheReportsOfThreeYears:
    async def test_become_incidents_with_ticket_audit_and_event_each_and_only_once(self, ctx: Context) -> None:
        path = shared_data("doe-oe417-outages") / "oe417_2021_2023.csv"
        report = await import_file(ctx, OE417, path, site_id="north")
        assert report.outcomes == {"created": 1_093, "unchanged": 0}
        statuses = await fetch("select status, count(*) from core.ticket group by 1 order by 1")
        assert [tuple(row) for row in statuses] == [("Closed", 1_093 - 154), ("Open", 154)]
        for each in (
            "select count(distinct ticket_id) from pm.incident",
            "select count(*) from core.audit where action = 'ticket.open'",
            "select count(*) from core.event where event_type = 'PM_TICKET_CREATED'",
        ):
            assert await fetchval(each) == 1_093
        assert await fetchval("select count(*) from pm.incident where restored_at is null") == 154
        unbalanced = """select count(*) from pm.incident i where fault_type = 'outage' and restored_at is not null
            and customers_affected <> coalesce((select sum(customers_restored) from pm.restoration_step s
            where s.incident_id = i.incident_id and s.restored_at = i.restored_at), 0)"""
        assert await fetchval(unbalanced) == 0
        again = await import_file(ctx, OE417, path, site_id="north")
        assert again.outcomes == {"created": 0, "unchanged": 1_093}
        assert await fetchval("select count(*) from core.ticket") == 1_093
        # The file writes some of them in two ways: `Texas:` and `Texas`.
        assert await fetchval("select count(*) from pm.asset where asset_type = 'area'") == 550

    async def test_are_read_from_the_ministrys_own_workbook(self, ctx: Context) -> None:
        path = shared_data("doe-oe417-outages") / "OE-417_2022_Annual_Summary.xls"
        report = await import_file(ctx, OE417, path, site_id="north")
        assert (report.rows_read, report.rows_rejected, report.outcomes["created"]) == (390, 0, 390)


class TestAReport:
    async def test_that_is_over_comes_in_restored_and_closed(self, ctx: Context, tmp_path: Path) -> None:
        await import_file(ctx, OE417, write(tmp_path, GOOD), site_id="north")
        (row,) = await fetch(
            """select fault_type, severity, customers_affected, started_at::text, i.restored_at::text, source_ref,
            i.asset_id, t.status, s.customers_restored from pm.incident i join core.ticket t using (ticket_id)
            join pm.restoration_step s using (incident_id)"""
        )
        assert tuple(row) == (
            "outage",
            "P1",
            60_000,
            "2022-01-02 00:00:00+00",
            "2022-01-02 06:30:00+00",
            "E1",
            "AREA-NORTH-OHIO-FRANKLIN-COUNTY",
            "Closed",
            60_000,
        )
        moves = await fetch(
            "select previous_status, new_status from core.audit where action = 'ticket.move' order by at, audit_id"
        )
        assert [tuple(move) for move in moves] == [
            ("Open", "Assigned"),
            ("Assigned", "In_Progress"),
            ("In_Progress", "Closed"),
        ]

    async def test_whose_end_is_unknown_stays_open(self, ctx: Context, tmp_path: Path) -> None:
        await import_file(ctx, OE417, write(tmp_path, OPEN), site_id="north")
        (row,) = await fetch(
            "select t.status, i.restored_at, i.description from pm.incident i join core.ticket t using (ticket_id)"
        )
        assert (row["status"], row["restored_at"]) == ("Open", None)
        assert "The time of restoration is not reported." in row["description"]

    async def test_loses_its_bad_rows_in_partial_mode(self, ctx: Context, tmp_path: Path) -> None:
        report = await import_file(
            ctx, OE417, write(tmp_path, GOOD, BAD, OPEN, FUTURE), site_id="north", mode="partial"
        )
        assert (report.rows_read, report.rows_accepted, report.rows_rejected) == (4, 2, 2)
        assert [(error.line, error.field) for error in report.errors] == [
            (3, "start_local"),
            (3, "area"),
            (3, "demand_loss_mw"),
            (5, "started_at"),
        ]
        assert report.outcomes == {"created": 2, "unchanged": 0}

    async def test_with_a_bad_row_is_refused_as_a_whole_otherwise(self, ctx: Context, tmp_path: Path) -> None:
        report = await import_file(ctx, OE417, write(tmp_path, GOOD, BAD), site_id="north")
        assert report.outcomes == {"withheld": 1}
        for table in ("pm.incident", "pm.asset", "core.ticket", "core.event"):
            assert await fetchval(f"select count(*) from {table}") == 0

    async def test_that_has_grown_adds_only_what_is_new(self, ctx: Context, tmp_path: Path) -> None:
        await import_file(ctx, OE417, write(tmp_path, GOOD), site_id="north")
        report = await import_file(ctx, OE417, write(tmp_path, GOOD, OPEN), site_id="north")
        assert report.outcomes == {"created": 1, "unchanged": 1}

    async def test_that_is_something_else_is_refused(self, ctx: Context, tmp_path: Path) -> None:
        path = tmp_path / "other.csv"
        path.write_text("colour,taste\nred,sweet\n")
        with pytest.raises(UnreadableFile, match="lacks the columns"):
            await import_file(ctx, OE417, path, site_id="north")


class TestTheIdOfAnArea:
    def test_is_readable_where_the_name_is_short(self) -> None:
        assert area_id("north", "Texas: Travis County;") == "AREA-NORTH-TEXAS-TRAVIS-COUNTY"

    def test_tells_long_names_apart_that_begin_alike(self) -> None:
        long = "Texas: " + ", ".join(f"County {n}" for n in range(60))
        ids = {area_id("north", long), area_id("north", long + ", one more")}
        assert len(ids) == 2
        pattern = Identifier.__metadata__[0]
        assert all(len(each) <= pattern.max_length for each in ids)
