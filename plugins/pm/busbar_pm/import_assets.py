"""Imports of assets: from a table with any columns, and from a SimBench network."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import msgspec

from busbar.sdk import (
    Identifier,
    ImportReport,
    ImportRun,
    Latitude,
    Longitude,
    Name,
    ReportBuilder,
    RowConverter,
    ShortText,
    Slug,
    UnreadableFile,
    WholeNumber,
    convert_rows,
    iterate_in_thread,
    open_source,
    suggest_mapping,
)
from busbar_pm.assets import AssetFields, AssetStatus
from busbar_pm.simbench import AssetRow, read_assets
from busbar_pm.simbench_tables import BadGrid
from busbar_pm.staging import StagedAsset, load_assets


class AssetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a table of assets. An asset that the site has already is changed in the fields that are mapped."""

    asset_id: Identifier
    asset_type: Slug
    name: Name
    location: ShortText = ""
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    installation_date: date | None = None
    status: AssetStatus = "in_service"
    parent_id: Identifier | None = None
    """An asset of the site, or of another row, before or after."""
    customers_served: WholeNumber = 0
    voltage_kv: Annotated[float, msgspec.Meta(ge=0, le=2000)] | None = None
    cost_center_id: Identifier | None = None


_BATCH_ROWS: Final = 2_000
_SIMBENCH_FIELDS: Final = tuple(name for name in AssetRow.__struct_fields__ if name != "asset_id")


async def import_assets(run: ImportRun) -> ImportReport:
    """Load a CSV, XLSX or XLS table of assets; see `AssetRecord`.

    Raises:
        UnreadableFile: the file is not a table within the limits.
        InvalidPayload: the mapping does not fit the columns.
    """
    source = await asyncio.to_thread(open_source, run.path)
    mapping = run.mapping or suggest_mapping(AssetRecord, source.columns)
    converter = RowConverter(AssetRecord, mapping, source.columns)
    report = ReportBuilder()

    async def batches() -> AsyncIterator[list[StagedAsset]]:
        async for rows in iterate_in_thread(convert_rows(source, converter, report, key="asset_id")):
            yield [_staged(row.line, row.value) for row in rows]
            run.progress(len(rows))

    outcomes = await load_assets(
        run.ctx,
        batches(),
        site_id=run.site_id,
        mode=run.mode,
        report=report,
        import_id=run.import_id,
        fields=[name for name in mapping.fields if name != "asset_id"],
    )
    return report.report(outcomes)


def _staged(line: int, record: AssetRecord) -> StagedAsset:
    values = msgspec.structs.asdict(record)
    return StagedAsset(line=line, asset_id=values.pop("asset_id"), fields=AssetFields(**values))


async def import_simbench(run: ImportRun) -> ImportReport:
    """Load the folder of a SimBench grid; a network that is loaded again is brought up to date.

    A grid is consistent as a whole or not at all, so the only rows that can be rejected are those whose ids another
    site has.

    Raises:
        UnreadableFile: a table is missing or malformed, or refers to what is not there.
    """
    report = ReportBuilder()

    async def batches() -> AsyncIterator[list[StagedAsset]]:
        try:
            async for assets in iterate_in_thread(_grid(run.path)):
                for _ in assets:
                    report.accept()
                yield assets
                run.progress(len(assets))
        except (BadGrid, UnicodeDecodeError) as error:
            raise UnreadableFile(f"The grid cannot be loaded: {error}") from None

    outcomes = await load_assets(
        run.ctx,
        batches(),
        site_id=run.site_id,
        mode=run.mode,
        report=report,
        import_id=run.import_id,
        fields=_SIMBENCH_FIELDS,
    )
    return report.report(outcomes)


def _grid(folder: Path) -> Iterator[list[StagedAsset]]:
    """The assets in batches; the line of each is its number, for they come from many files."""
    numbered = enumerate(read_assets(folder), start=1)
    while batch := list(islice(numbered, _BATCH_ROWS)):
        yield [
            StagedAsset(
                line=number,
                asset_id=row.asset_id,
                fields=AssetFields(**{name: getattr(row, name) for name in _SIMBENCH_FIELDS}),
            )
            for number, row in batch
        ]
