"""The OE-417 reports become incidents, and no row disappears on the way."""

from collections import Counter
from datetime import UTC, datetime, time
from decimal import Decimal
from pathlib import Path

import pytest
from python_calamine import CalamineWorkbook

from busbar_pm.oe417 import FaultType, NotOe417, Replay, Severity, read_csv, read_summary, severity
from busbar_pm.tests.shared_data import shared_data

HEADER = (
    "event_id,start_local,restored_local,duration_min,area,nerc_region,alert_criteria,event_type,"
    "demand_loss_mw,customers_affected"
)
SUMMARY_HEADER = [
    "Month",
    "Date Event Began",
    "Time Event Began",
    "Date of Restoration",
    "Time of Restoration",
    "Area Affected",
    "NERC Region",
    "Alert Criteria",
    "Event Type",
    "Demand Loss (MW)",
    "Number of Customers Affected",
]
SUMMARY_TITLE = ["OE-417 Electric Emergency and Disturbance Report - Calendar Year 2022"]


@pytest.fixture(scope="module")
def replay() -> Replay:
    return read_csv(shared_data("doe-oe417-outages") / "oe417_2021_2023.csv")


def write(folder: Path, *lines: str) -> Path:
    path = folder / "report.csv"
    path.write_text("\n".join((HEADER, *lines)) + "\n")
    return path


class TestTheCsvOfThreeYears:
    def test_accepts_all_of_its_1093_rows(self, replay: Replay) -> None:
        assert (replay.rows_read, len(replay.incidents), replay.rejected) == (1_093, 1_093, ())
        assert Counter(row.started_at.year for row in replay.incidents) == {2021: 387, 2022: 390, 2023: 316}

    def test_keeps_what_the_source_says_is_missing_as_none(self, replay: Replay) -> None:
        assert sum(row.restored_at is None for row in replay.incidents) == 154
        assert sum((row.customers_affected or 0) > 0 for row in replay.incidents) == 341
        assert sum(row.customers_affected is None for row in replay.incidents) == 152
        assert sum(row.demand_loss_mw is None for row in replay.incidents) == 287
        unrestored = next(row for row in replay.incidents if row.restored_at is None)
        assert "The time of restoration is not reported." in unrestored.remarks

    def test_takes_local_time_as_utc_and_keeps_its_text(self, replay: Replay) -> None:
        event = replay.incidents[1]
        assert event.event_id == "OE417-2021-0001"
        assert event.started_local == "2021-01-02T10:28:00"
        assert event.started_at == datetime(2021, 1, 2, 10, 28, tzinfo=UTC)
        assert event.restored_at == datetime(2021, 1, 2, 10, 29, tzinfo=UTC)
        assert (event.customers_affected, event.demand_loss_mw) == (5_803, Decimal("8.0"))
        assert (event.fault_type, event.severity, event.area) == ("outage", "P2", "California: Butte County")

    def test_every_loss_is_an_outage_and_50000_customers_are_p1(self, replay: Replay) -> None:
        for row in replay.incidents:
            if row.customers_affected or row.demand_loss_mw:
                assert row.fault_type == "outage"
            if (row.customers_affected or 0) >= 50_000:
                assert row.severity == "P1"
        assert {row.fault_type for row in replay.incidents} == {"fault", "outage", "degradation"}
        assert {row.severity for row in replay.incidents} == {"P1", "P2", "P3", "P4"}


class TestDoesOwnSheetOf2022:
    def test_gives_the_same_events_as_the_csv(self, replay: Replay) -> None:
        book = CalamineWorkbook.from_path(str(shared_data("doe-oe417-outages") / "OE-417_2022_Annual_Summary.xls"))
        sheet = read_summary(book.get_sheet_by_index(0).to_python())
        assert (sheet.rows_read, sheet.rejected) == (390, ())
        expected = [row for row in replay.incidents if row.started_at.year == 2022]
        for mine, theirs in zip(sheet.incidents, expected, strict=True):
            if mine.event_id == "OE417-2022-R0069":
                # DOE wrote this one restoration date as a serial number; the CSV left it out.
                assert (mine.restored_local, theirs.restored_local) == ("2022-03-21T16:38:00", None)
            else:
                assert mine.restored_at == theirs.restored_at
            for field in (
                "started_at",
                "area",
                "fault_type",
                "severity",
                "demand_loss_mw",
                "customers_affected",
                "nerc_regions",
            ):
                assert getattr(mine, field) == getattr(theirs, field), (mine, theirs)

    def test_names_every_bad_cell_of_a_row(self) -> None:
        bad = ["May", "31/12/2022", "noon", "Unknown", "Unknown", "", "RF", "", "Alien visit", "some", -1]
        good = ["May", 44_641.0, time(1, 2), "03/21/2022", "04:05", "Ohio:", "RF", "", "Theft", 0, 0]
        sheet = read_summary([SUMMARY_TITLE, SUMMARY_HEADER, bad, ["", ""], good])
        assert sheet.rows_read == 2
        (rejected,) = sheet.rejected
        assert rejected.line == 3
        assert {error.field for error in rejected.errors} == {
            "start_date",
            "start_time",
            "area",
            "event_type",
            "demand_loss_mw",
            "customers_affected",
        }
        (incident,) = sheet.incidents
        assert incident.event_id == "OE417-2022-R0005"
        assert (incident.started_local, incident.restored_local) == ("2022-03-21T01:02:00", "2022-03-21T04:05:00")

    def test_rejects_a_row_without_start(self) -> None:
        row = ["May", "", "", "", "", "Ohio:", "RF", "", "Theft", 0, 0]
        (rejected,) = read_summary([SUMMARY_TITLE, SUMMARY_HEADER, row]).rejected
        assert [(error.field, error.message) for error in rejected.errors] == [("start_local", "is missing")]

    def test_refuses_another_sheet(self) -> None:
        with pytest.raises(NotOe417, match="not with an OE-417 title"):
            read_summary([["Price list"], ["a"]])
        with pytest.raises(NotOe417, match="lacks the columns Alert Criteria"):
            read_summary([SUMMARY_TITLE, [name for name in SUMMARY_HEADER if name != "Alert Criteria"]])


class TestDirtyRows:
    @pytest.mark.parametrize(
        ("line", "field", "message"),
        [
            ("E1,,,,Ohio,RF,c,Theft,0,0", "start_local", "is missing"),
            ("E1,yesterday,,,Ohio,RF,c,Theft,0,0", "start_local", "is not a date and time"),
            ("E1,2022-01-01T00:00:00Z,,,Ohio,RF,c,Theft,0,0", "start_local", "has a zone"),
            ("E1,2022-01-02T00:00:00,2022-01-01T00:00:00,,Ohio,RF,c,Theft,0,0", "restored_local", "is before"),
            ("E1,2022-01-02T00:00:00,,,,RF,c,Theft,0,0", "area", "is missing"),
            ("E1,2022-01-02T00:00:00,,,Ohio,RF,c,,0,0", "event_type", "is missing"),
            ("E1,2022-01-02T00:00:00,,,Ohio,RF,c,Theft - Locusts,0,0", "event_type", "has the part 'locusts'"),
            ("E1,2022-01-02T00:00:00,,,Ohio,RF,c,Theft,NaN,0", "demand_loss_mw", "is not a number"),
            ("E1,2022-01-02T00:00:00,,,Ohio,RF,c,Theft,0,-5", "customers_affected", "is not between"),
            ("E1,2022-01-02T00:00:00,,,Ohio,RF,c,Theft,0,1.5", "customers_affected", "is not a whole number"),
            ("E1,2022-01-02T00:00:00,,,Ohio,RF,c,Theft,0", "", "has 9 fields, the header 10"),
            (",2022-01-02T00:00:00,,,Ohio,RF,c,Theft,0,0", "event_id", "is missing"),
        ],
    )
    def test_are_rejected_with_field_and_reason(self, tmp_path: Path, line: str, field: str, message: str) -> None:
        good = "E0,2022-01-02T00:00:00,,,Ohio,RF,c,Theft,0,0"
        replay = read_csv(write(tmp_path, good, line))
        assert (replay.rows_read, len(replay.incidents)) == (2, 1)
        (rejected,) = replay.rejected
        assert rejected.line == 3
        assert [error.field for error in rejected.errors] == [field]
        assert rejected.errors[0].message.startswith(message)

    def test_an_event_that_comes_twice_is_rejected_the_second_time(self, tmp_path: Path) -> None:
        line = "E1,2022-01-02T00:00:00,,,Ohio,RF,c,Theft,0,0"
        replay = read_csv(write(tmp_path, line, line))
        assert [(row.line, row.errors[0].message) for row in replay.rejected] == [(3, "is the event of line 2 again")]

    def test_lines_are_counted_through_quoted_line_breaks(self, tmp_path: Path) -> None:
        first = 'E1,2022-01-02T00:00:00,,,"Ohio\nand more",RF,c,Theft,0,0'
        replay = read_csv(write(tmp_path, first, "E2,,,,Ohio,RF,c,Theft,0,0"))
        assert replay.incidents[0].area == "Ohio and more"
        assert replay.rejected[0].line == 4

    def test_a_file_with_other_columns_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "other.csv"
        path.write_text("event_id,area\n1,Ohio\n")
        with pytest.raises(NotOe417, match=r"other\.csv lacks the columns alert_criteria"):
            read_csv(path)


class TestSeverity:
    @pytest.mark.parametrize(
        ("fault_type", "customers", "demand_loss_mw", "expected"),
        [
            ("outage", 50_000, "0", "P1"),
            ("outage", 49_999, "0", "P2"),
            ("outage", 0, "300", "P1"),
            ("outage", 0, "299.9", "P2"),
            ("outage", 5_000, "0", "P2"),
            ("outage", 4_999, "99.9", "P3"),
            ("fault", 0, "0", "P3"),
            ("degradation", 0, "0", "P4"),
        ],
    )
    def test_follows_the_thresholds_of_the_form(
        self, fault_type: FaultType, customers: int, demand_loss_mw: str, expected: Severity
    ) -> None:
        assert severity(fault_type, customers=customers, demand_loss_mw=Decimal(demand_loss_mw)) == expected
