"""Incident rows from the US Department of Energy's OE-417 disturbance reports, for replay of bulk-system events.

Two forms are read: the CSV of one row per event (`read_csv`), and the sheet of DOE's own annual summary, given as rows
of cells by whatever reads the workbook (`read_summary`). Every row becomes either an incident or a rejected row that
names all of its bad fields; a missing figure (blank, `Unknown`) is no reason to reject, it becomes None and a remark.

Times: DOE gives the reporter's local time without a zone, and an area may span two. The text is kept as it is
(`started_local`), and **taken as UTC** (`started_at`): durations are right but for a change to or from daylight
saving time; the hour of day is the local one; events of different areas are up to some hours out of order.

`fault_type`: outage when customers or load were lost; otherwise what `_FAULT_TYPES` says of the event type, the
gravest of a compound one (`Vandalism - Theft`): fault when equipment failed or was damaged, degradation when the
system ran with less margin, control or security and nothing is reported lost.

`severity`, after the thresholds of the form's own alert criteria (Form OE-417, Schedule 1):

- P1: 50,000 customers or more, or 300 MW or more (criteria: more than 50,000 customers for an hour; uncontrolled loss
  of 300 MW of firm load);
- P2: 5,000 customers or more (a tenth of it), or 100 MW or more (criterion: firm load shedding of 100 MW);
- P3: any other loss, and any fault;
- P4: degradation.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal

import msgspec

FaultType = Literal["fault", "outage", "degradation"]
Severity = Literal["P1", "P2", "P3", "P4"]


class IncidentRow(msgspec.Struct, frozen=True, kw_only=True):
    """One reported event."""

    line: int
    """Line (CSV) or row (sheet) where it begins, from 1, the header included."""
    event_id: str
    fault_type: FaultType
    severity: Severity
    started_local: str
    started_at: datetime
    """The local time taken as UTC; see the module."""
    restored_local: str | None
    restored_at: datetime | None
    area: str
    nerc_regions: tuple[str, ...]
    event_type: str
    alert_criteria: str
    demand_loss_mw: Decimal | None
    customers_affected: int | None
    remarks: tuple[str, ...]
    """What the report does not say, one sentence each."""


class BadField(msgspec.Struct, frozen=True, kw_only=True):
    """One field that could not be read."""

    field: str
    value: str
    """At most 80 characters of it."""
    message: str


class RejectedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row that became no incident, and everything that is wrong with it."""

    line: int
    """Line (CSV) or row (sheet) where it begins, from 1, the header included."""
    errors: tuple[BadField, ...]


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of reading one file: `rows_read == len(incidents) + len(rejected)`."""

    rows_read: int
    incidents: tuple[IncidentRow, ...]
    rejected: tuple[RejectedRow, ...]


class NotOe417(ValueError):
    """The file or sheet has not the columns of an OE-417 report."""


def read_csv(path: Path) -> Replay:
    """Read the CSV form. Raises NotOe417 when columns are missing, UnicodeDecodeError when it is not UTF-8."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        missing = set(_CSV_COLUMNS) - set(header)
        if missing:
            raise NotOe417(f"{path.name} lacks the columns {', '.join(sorted(missing))}.")
        return _replay(_csv_rows(lines, header))


def read_summary(rows: Iterable[Sequence[object]]) -> Replay:
    """Read the sheet of an annual summary: a title with the year, a header, then one row for each event.

    Cells are text, numbers, dates or times, as the workbook has them; a date may also be text (MM/DD/YYYY) or the
    serial number of a spreadsheet. Raises NotOe417 when title or header are not as expected.
    """
    cells = iter(rows)
    title = _text(next(cells, [""])[0])
    year = re.search(r"Calendar Year (\d{4})", title)
    if year is None:
        raise NotOe417(f"The sheet begins with {title[:80]!r}, not with an OE-417 title and its year.")
    header = [_text(cell) for cell in next(cells, [])]
    missing = set(_SUMMARY_COLUMNS) - set(header)
    if missing:
        raise NotOe417(f"The sheet lacks the columns {', '.join(sorted(missing))}.")
    return _replay(_summary_rows(cells, header, year[1]))


# The order is the gravity. Left of the arrow: what a part of the event type may be called, spelling errors included.
_FAULT_TYPES: dict[str, FaultType] = {
    **dict.fromkeys(("distribution interruption",), "outage"),
    **dict.fromkeys(
        (
            "transmission interruption",
            "transmisison interruption",
            "transmission equipment failure",
            "generator loss or failure",
            "failure at high voltage substation or switchyard",
            "severe weather",
            "sever weather",
            "weather or natural disaster",
            "natural disaster",
            "physical attack",
            "actual physical attack",
            "sabotage",
            "vandalism",
            "theft",
        ),
        "fault",
    ),
    **dict.fromkeys(
        (
            "system operations",
            "suspicious activity",
            "threat of physical attack",
            "cyber event",
            "cyber event (information technology)",
            "fuel supply deficiency",
            "fuel supply emergency",
            "generation inadequacy",
            "other",
            "unknown",
        ),
        "degradation",
    ),
}
_GRAVITY: tuple[FaultType, ...] = ("outage", "fault", "degradation")
_PARTS = re.compile(r"\s*/\s*|\s+-\s+")
_CSV_COLUMNS = (
    "event_id",
    "start_local",
    "restored_local",
    "area",
    "nerc_region",
    "alert_criteria",
    "event_type",
    "demand_loss_mw",
    "customers_affected",
)
_SUMMARY_COLUMNS = {
    "Area Affected": "area",
    "NERC Region": "nerc_region",
    "Alert Criteria": "alert_criteria",
    "Event Type": "event_type",
    "Demand Loss (MW)": "demand_loss_mw",
    "Number of Customers Affected": "customers_affected",
    "Date Event Began": "start_date",
    "Time Event Began": "start_time",
    "Date of Restoration": "restored_date",
    "Time of Restoration": "restored_time",
}
_SPREADSHEET_EPOCH = date(1899, 12, 30)
_CUSTOMERS_MAX = 400_000_000
_DEMAND_LOSS_MW_MAX = 1_000_000

_Record = Mapping[str, object]
_Item = tuple[int, _Record | BadField]


def _csv_rows(lines: Iterable[list[str]], header: list[str]) -> Iterator[_Item]:
    line = 2
    for fields in lines:
        if fields:
            if len(fields) == len(header):
                yield line, dict(zip(header, fields, strict=True))
            else:
                yield (
                    line,
                    BadField(
                        field="", value=_excerpt(fields), message=f"has {len(fields)} fields, the header {len(header)}"
                    ),
                )
        line = getattr(lines, "line_num", line) + 1


def _summary_rows(rows: Iterable[Sequence[object]], header: list[str], year: str) -> Iterator[_Item]:
    for line, cells in enumerate(rows, start=3):
        if not any(_text(cell) for cell in cells):
            continue
        record = {_SUMMARY_COLUMNS.get(name, name): cell for name, cell in zip(header, cells, strict=False)}
        record["event_id"] = f"OE417-{year}-R{line:04d}"
        yield line, record


def _replay(items: Iterable[_Item]) -> Replay:
    incidents: list[IncidentRow] = []
    rejected: list[RejectedRow] = []
    seen: dict[str, int] = {}
    rows_read = 0
    for line, record in items:
        rows_read += 1
        if isinstance(record, BadField):
            rejected.append(RejectedRow(line=line, errors=(record,)))
            continue
        reading = _Reading(line, record)
        incident = reading.incident()
        if incident and incident.event_id in seen:
            reading.reject("event_id", incident.event_id, f"is the event of line {seen[incident.event_id]} again")
        if incident is None or reading.errors:
            rejected.append(RejectedRow(line=line, errors=tuple(reading.errors)))
        else:
            seen[incident.event_id] = line
            incidents.append(incident)
    return Replay(rows_read=rows_read, incidents=tuple(incidents), rejected=tuple(rejected))


class _Reading:
    """One row being read: collects what is wrong and what is missing."""

    def __init__(self, line: int, record: _Record) -> None:
        self.line = line
        self.record = record
        self.errors: list[BadField] = []
        self.remarks: list[str] = []

    def incident(self) -> IncidentRow | None:
        event_id = self._required("event_id")
        started = self._moment("start")
        restored = self._moment("restored")
        if started is None and not any(error.field.startswith("start") for error in self.errors):
            self.reject("start_local", "", "is missing")
        if restored is None and not any(error.field.startswith("restored") for error in self.errors):
            self.remarks.append("The time of restoration is not reported.")
        if started and restored and restored < started:
            self.reject("restored_local", restored.isoformat(), f"is before the start, {started.isoformat()}")
        area = self._required("area")
        event_type = self._required("event_type")
        customers = self._number("customers_affected", _CUSTOMERS_MAX, "The number of customers")
        if customers is not None and customers != customers.to_integral_value():
            self.reject("customers_affected", str(customers), "is not a whole number")
        demand_loss_mw = self._number("demand_loss_mw", _DEMAND_LOSS_MW_MAX, "The demand loss")
        fault_type = self._fault_type(event_type, lost=bool(customers or demand_loss_mw))
        regions = tuple(part for part in re.split(r"[/,\s]+", _text(self.record.get("nerc_region"))) if part)
        if not regions:
            self.remarks.append("The NERC region is not reported.")
        if self.errors or started is None or fault_type is None:
            return None
        return IncidentRow(
            line=self.line,
            event_id=event_id,
            fault_type=fault_type,
            severity=severity(fault_type, customers=int(customers or 0), demand_loss_mw=demand_loss_mw or Decimal()),
            started_local=started.isoformat(),
            started_at=started.replace(tzinfo=UTC),
            restored_local=restored.isoformat() if restored else None,
            restored_at=restored.replace(tzinfo=UTC) if restored else None,
            area=area.rstrip("; "),
            nerc_regions=regions,
            event_type=event_type,
            alert_criteria=_text(self.record.get("alert_criteria")),
            demand_loss_mw=demand_loss_mw,
            customers_affected=None if customers is None else int(customers),
            remarks=tuple(self.remarks),
        )

    def reject(self, field: str, value: object, message: str) -> None:
        self.errors.append(BadField(field=field, value=_excerpt(value), message=message))

    def _required(self, field: str) -> str:
        text = _text(self.record.get(field))
        if not text:
            self.reject(field, "", "is missing")
        return text

    def _number(self, field: str, maximum: int, subject: str) -> Decimal | None:
        text = _text(self.record.get(field))
        if _is_missing(text):
            self.remarks.append(f"{subject} is not reported.")
            return None
        try:
            number = Decimal(text)
        except InvalidOperation:
            number = Decimal("NaN")
        if not number.is_finite():
            self.reject(field, text, "is not a number")
        elif not 0 <= number <= maximum:
            self.reject(field, text, f"is not between 0 and {maximum:,}")
        else:
            return number
        return None

    def _fault_type(self, event_type: str, *, lost: bool) -> FaultType | None:
        if not event_type:
            return None
        parts = [part.lower() for part in _PARTS.split(event_type)]
        unknown = [part for part in parts if part not in _FAULT_TYPES]
        if unknown:
            self.reject("event_type", event_type, f"has the part {unknown[0]!r}, which has no rule")
            return None
        return "outage" if lost else min((_FAULT_TYPES[part] for part in parts), key=_GRAVITY.index)

    def _moment(self, which: Literal["start", "restored"]) -> datetime | None:
        field = f"{which}_local"
        if field in self.record:
            text = _text(self.record[field])
            if _is_missing(text):
                return None
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                self.reject(field, text, "is not a date and time such as 2022-01-31T23:59:00")
                return None
            if moment.tzinfo is not None:
                self.reject(field, text, "has a zone, and the report gives local time")
                return None
            return moment
        day = self._day(f"{which}_date")
        time_of_day = self._time(f"{which}_time")
        return datetime.combine(day, time_of_day) if day and time_of_day is not None else None

    def _day(self, field: str) -> date | None:
        value = self.record.get(field)
        if isinstance(value, datetime):
            return value.date()
        if isinstance(value, date):
            return value
        text = _text(value)
        if _is_missing(text):
            return None
        try:
            if re.fullmatch(r"\d{5}(\.0+)?", text):
                return _SPREADSHEET_EPOCH + timedelta(days=int(float(text)))
            if "/" in text:
                month, day, year = (int(part) for part in text.split("/"))
                return date(year, month, day)
            return datetime.fromisoformat(text).date()
        except ValueError:
            self.reject(field, text, "is not a date such as 01/31/2022")
            return None

    def _time(self, field: str) -> time | None:
        value = self.record.get(field)
        if isinstance(value, time):
            return value
        text = _text(value)
        if _is_missing(text):
            return None
        try:
            return time.fromisoformat(text)
        except ValueError:
            self.reject(field, text, "is not a time such as 23:59")
            return None


def severity(fault_type: FaultType, *, customers: int, demand_loss_mw: Decimal) -> Severity:
    """Return the severity of an event by the rule of the module."""
    if customers >= 50_000 or demand_loss_mw >= 300:
        return "P1"
    if customers >= 5_000 or demand_loss_mw >= 100:
        return "P2"
    if customers or demand_loss_mw or fault_type != "degradation":
        return "P3"
    return "P4"


def _text(value: object) -> str:
    """The text of a cell, with every run of white space (no-break spaces, line breaks) made one space."""
    return "" if value is None else " ".join(str(value).split())


def _is_missing(text: str) -> bool:
    return text.lower() in ("", "unknown", "n/a")


def _excerpt(value: object) -> str:
    return _text(value)[:80]
