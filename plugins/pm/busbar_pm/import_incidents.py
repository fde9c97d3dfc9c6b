"""Imports disturbance reports (Form OE-417) as incidents on area assets, each with its ticket, audit entry and event.

An event that the site has already, by its `source_ref`, is left alone, so that a file can be loaded again when it has
grown. An event whose restoration is reported comes in as restored, and its ticket is closed: what is over must not
stand on anybody's worklist. The others stay open.

Incidents are written in groups, not in one transaction: after a crash half-way the import is repeated, and goes on
where it ended. All or nothing is decided by the rows of the file, before anything is written.
"""

import asyncio
import csv
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from busbar.sdk import (
    ALL_OR_NOTHING,
    CellError,
    Conflict,
    Context,
    ImportReport,
    ImportRun,
    InvalidPayload,
    ReportBuilder,
    UnreadableFile,
    WorkbookLimits,
    advance_to,
    fetch,
    format_of,
    read_workbook,
    spawn,
)
from busbar_pm import incidents
from busbar_pm.assets import AssetFields
from busbar_pm.incidents import NewIncident, ReportedIncident, check_times
from busbar_pm.oe417 import IncidentRow, NotOe417, Replay, read_csv, read_summary
from busbar_pm.staging import StagedAsset, load_assets

T = TypeVar("T")

REPORTS_IN_FLIGHT: Final = 64
"""So many wait for the shared statement at once."""
CLOSINGS_IN_FLIGHT: Final = 3
"""Each takes a connection of the background pool, which has others to serve."""
_WORKBOOK: Final = WorkbookLimits(rows_max=20_000, columns_max=50, cell_bytes_max=32_768)
_AREA_FIELDS: Final = ("name", "location")


async def import_oe417(run: ImportRun) -> ImportReport:
    """Load the CSV or the annual summary (XLS, XLSX) of OE-417 reports.

    Raises:
        UnreadableFile: the file is not such a report.
    """
    replay = await asyncio.to_thread(_read, run.path)
    run.progress(replay.rows_read)
    report = ReportBuilder()
    for rejected in replay.rejected:
        report.reject(
            rejected.line, [CellError(field=e.field, value=e.value, message=e.message) for e in rejected.errors]
        )
    good = list(_possible(run.ctx, replay.incidents, report))
    if run.mode == ALL_OR_NOTHING and report.rows_rejected:
        return report.report({"withheld": len(good)})
    new = await _without_known(run.site_id, good)
    await _add_areas(run, new)
    opened = await _report_all(run, new, report)
    await _close_restored(run.ctx, opened)
    return report.report({"created": len(opened), "unchanged": report.rows_accepted - len(opened)})


def _read(path: Path) -> Replay:
    try:
        return read_csv(path) if format_of(path) == "csv" else read_summary(_sheet(path))
    except (NotOe417, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableFile(f"This is not an OE-417 report: {error}") from None


def _sheet(path: Path) -> Iterator[Sequence[str]]:
    for item in read_workbook(path, sheet=None, limits=_WORKBOOK):
        if isinstance(item, str):
            raise UnreadableFile(item)
        yield item[1]


def _possible(ctx: Context, rows: Sequence[IncidentRow], report: ReportBuilder) -> Iterator[IncidentRow]:
    now = ctx.clock()
    for row in rows:
        try:
            check_times(row.started_at, row.restored_at, now=now)
        except InvalidPayload as refused:
            report.reject(row.line, _cells(refused))
        else:
            report.accept()
            yield row


def _cells(refused: InvalidPayload) -> list[CellError]:
    errors = [CellError(field=error.field, message=error.message) for error in refused.errors]
    return errors or [CellError(field="", message=refused.detail)]


async def _without_known(site_id: str, rows: Sequence[IncidentRow]) -> list[IncidentRow]:
    known = await fetch(
        "select source_ref from pm.incident where site_id = $1 and source_ref = any($2)",
        site_id,
        [row.event_id for row in rows],
    )
    there = {row["source_ref"] for row in known}
    return [row for row in rows if row.event_id not in there]


async def _add_areas(run: ImportRun, rows: Sequence[IncidentRow]) -> None:
    areas = {area_id(run.site_id, row.area): row for row in reversed(rows)}
    report = ReportBuilder()

    async def batches() -> AsyncIterator[list[StagedAsset]]:
        for _ in areas:
            report.accept()
        yield [
            StagedAsset(
                line=row.line,
                asset_id=asset_id,
                fields=AssetFields(asset_type="area", name=_cut(row.area, 120), location=_cut(row.area, 250)),
            )
            for asset_id, row in areas.items()
        ]

    await load_assets(
        run.ctx,
        batches(),
        site_id=run.site_id,
        mode=ALL_OR_NOTHING,
        report=report,
        import_id=run.import_id,
        fields=_AREA_FIELDS,
    )
    if report.rows_rejected:
        # The site is in each id, so this takes an asset that somebody named like one of ours.
        first = report.report().errors[0]
        raise Conflict(f"The area {first.value} cannot be added: it {first.message}.")


def area_id(site_id: str, area: str) -> str:
    """The id of the asset that stands for an area at a site: `AREA-`, the site, and the area's name made fit.

    Where that would be longer than an id may be, the end gives way to the beginning of a hash of the whole name.
    """
    slug = re.sub(r"[^A-Z0-9]+", "-", area.upper()).strip("-") or "UNNAMED"
    prefix = f"AREA-{site_id.upper()}"
    if len(prefix) + 1 + len(slug) <= _ID_CHARACTERS_MAX:
        return f"{prefix}-{slug}"
    digest = hashlib.sha256(area.encode()).hexdigest()[:8].upper()
    room = _ID_CHARACTERS_MAX - len(prefix) - len(digest) - 2
    return f"{prefix}-{slug[:room].rstrip('-')}-{digest}" if room > 0 else f"{prefix}-{digest}"


_ID_CHARACTERS_MAX: Final = 60


async def _report_all(
    run: ImportRun, rows: Sequence[IncidentRow], report: ReportBuilder
) -> list[tuple[IncidentRow, ReportedIncident]]:
    opened: list[tuple[IncidentRow, ReportedIncident]] = []

    async def one(row: IncidentRow) -> None:
        try:
            reported = await incidents.report(run.ctx, _new_incident(run.site_id, row))
        except Conflict:
            # Another import of the same report was faster; the incident is there, which is what was asked for.
            return
        except InvalidPayload as refused:
            report.revoke(row.line, _cells(refused))
            return
        opened.append((row, reported))

    await _each(rows, one, in_flight=REPORTS_IN_FLIGHT)
    return opened


def _new_incident(site_id: str, row: IncidentRow) -> NewIncident:
    facts = [f"{row.event_type} in {_cut(row.area, 500)}.", row.alert_criteria]
    if row.demand_loss_mw is not None:
        facts.append(f"Demand loss: {row.demand_loss_mw.normalize():f} MW.")
    if row.nerc_regions:
        facts.append(f"NERC regions: {', '.join(row.nerc_regions)}.")
    return NewIncident(
        asset_id=area_id(site_id, row.area),
        fault_type=row.fault_type,
        severity=row.severity,
        description="\n".join(fact for fact in (*facts, *row.remarks) if fact)[:10_000],
        started_at=row.started_at,
        customers_affected=row.customers_affected,
        source_ref=row.event_id,
        restored_at=row.restored_at,
    )


async def _close_restored(ctx: Context, opened: Sequence[tuple[IncidentRow, ReportedIncident]]) -> None:
    async def one(item: tuple[IncidentRow, ReportedIncident]) -> None:
        row, reported = item
        comment = f"Over since {row.restored_local}, as reported."
        await advance_to(ctx, reported.ticket_id, target="Closed", comment=comment)

    await _each([item for item in opened if item[0].restored_at is not None], one, in_flight=CLOSINGS_IN_FLIGHT)


async def _each(items: Sequence[T], work: Callable[[T], Awaitable[None]], *, in_flight: int) -> None:
    """Do the work for each item, some at once; the first failure ends it, and is raised."""
    waiting = iter(items)

    async def lane() -> None:
        for item in waiting:
            await work(item)

    lanes: list[asyncio.Task[Any]] = [
        spawn(lane(), name="import-oe417", pool="background") for _ in range(min(in_flight, len(items)))
    ]
    if not lanes:
        return
    try:
        done, _ = await asyncio.wait(lanes, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in lanes:
            task.cancel()
        await asyncio.wait(lanes)


def _cut(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"
