"""Imports of materials from a table with any columns; their stock comes with another import."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from busbar.sdk import (
    ALL_OR_NOTHING,
    CellError,
    Context,
    Identifier,
    ImportReport,
    ImportRun,
    Name,
    Quantity,
    ReportBuilder,
    RowConverter,
    ShortText,
    UnitPrice,
    convert_rows,
    copy_rows,
    execute,
    fetch,
    iterate_in_thread,
    open_source,
    record_many,
    suggest_mapping,
    transaction,
)
from busbar_mm import reorder
from busbar_mm.books import QUANTITY_MAX, ZERO
from busbar_mm.fields import Currency, Unit
from busbar_mm.materials import COLUMN_TYPES, FIELDS, LOCATION_DEFAULT, MaterialFields


class MaterialRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a table of materials. A material that the site has is changed in the fields that are mapped."""

    material_id: Identifier
    description: ShortText
    unit_of_measure: Unit
    reorder_level: Quantity = ZERO
    reorder_buffer: Quantity = ZERO
    storage_location: Name = LOCATION_DEFAULT
    cost_center_id: Identifier | None = None
    unit_price: UnitPrice | None = None
    currency: Currency = "EUR"


class StagedMaterial(msgspec.Struct, frozen=True, kw_only=True):
    """A material as a file has it."""

    line: int
    """Where, for the report."""
    material_id: str
    fields: MaterialFields


_STAGE: Final = (
    "create temporary table material_staged (line int, material_id text primary key, "
    + ", ".join(f"{name} {COLUMN_TYPES.get(name, 'text')}" for name in FIELDS)
    + ") on commit drop"
)
_DROP_FOREIGN: Final = """
delete from material_staged s using mm.material m where m.material_id = s.material_id and m.site_id <> $1
returning line, s.material_id as value
"""
_DROP_TOO_HIGH: Final = """
delete from material_staged s where reorder_level + reorder_buffer > $1 returning line, reorder_buffer::text as value
"""
_DROP_FROZEN: Final = """
delete from material_staged s using mm.material m
where m.material_id = s.material_id and ({changed})
    and exists (select from mm.stock_transaction t where t.material_id = s.material_id)
returning line, s.unit_of_measure as value
"""
_WRITE: Final = """
insert into mm.material as old (material_id, site_id, created_at, updated_at, {all_fields})
select material_id, $1, $2, $2, {all_fields} from material_staged order by material_id
on conflict (material_id) do update set {sets}, updated_at = $2, version = old.version + 1
where old.site_id = $1 and ({old}) is distinct from ({new})
returning material_id, xmax = 0 as created
"""
_LOCATIONS: Final = """
insert into mm.storage_location (site_id, storage_location, created_at)
select distinct $1, storage_location, $2::timestamptz from material_staged on conflict do nothing
"""


async def import_materials(run: ImportRun) -> ImportReport:
    """Load a CSV, XLSX or XLS table of materials; see `MaterialRecord`.

    Raises:
        UnreadableFile: the file is not a table within the limits.
        InvalidPayload: the mapping does not fit the columns.
    """
    source = await asyncio.to_thread(open_source, run.path)
    mapping = run.mapping or suggest_mapping(MaterialRecord, source.columns)
    converter = RowConverter(MaterialRecord, mapping, source.columns)
    report = ReportBuilder()

    async def batches() -> AsyncIterator[list[StagedMaterial]]:
        async for rows in iterate_in_thread(convert_rows(source, converter, report, key="material_id")):
            yield [_staged(row.line, row.value) for row in rows]
            run.progress(len(rows))

    fields = [name for name in mapping.fields if name != "material_id"]
    return report.report(await load_materials(run, batches(), report=report, fields=fields))


def _staged(line: int, row: MaterialRecord) -> StagedMaterial:
    values = msgspec.structs.asdict(row)
    return StagedMaterial(line=line, material_id=values.pop("material_id"), fields=MaterialFields(**values))


async def load_materials(
    run: ImportRun, batches: AsyncIterator[Sequence[StagedMaterial]], *, report: ReportBuilder, fields: Sequence[str]
) -> dict[str, int]:
    """Add the materials that are new and change those that the site has in `fields`; returns how many of each.

    New ones have no stock, which comes by other ways; so they are not reordered before their first posting. With mode
    all or nothing, a report that has any rejected row at the end means that nothing is written.
    """
    async with transaction():
        await execute("set local statement_timeout = '10min'")
        await execute("set local idle_in_transaction_session_timeout = '10min'")
        await execute(_STAGE)
        async for batch in batches:
            rows = [(one.line, one.material_id, *(getattr(one.fields, name) for name in FIELDS)) for one in batch]
            await copy_rows("material_staged", schema="pg_temp", columns=("line", "material_id", *FIELDS), rows=rows)
        await _drop_bad(run.site_id, report, fields)
        if report.rows_rejected and run.mode == ALL_OR_NOTHING:
            await execute("drop table material_staged")
            return {"withheld": report.rows_accepted}
        return await _write(run.ctx, run.site_id, fields, report, run.import_id)


async def _drop_bad(site_id: str, report: ReportBuilder, fields: Sequence[str]) -> None:
    def revoke(rows: Sequence[Any], field: str, message: str) -> None:
        for row in rows:
            report.revoke(row["line"], [CellError(field=field, value=row["value"], message=message)])

    revoke(await fetch(_DROP_FOREIGN, site_id), "material_id", "is the id of a material at another site")
    revoke(
        await fetch(_DROP_TOO_HIGH, QUANTITY_MAX), "reorder_buffer", f"with the level must not be above {QUANTITY_MAX}"
    )
    frozen = [name for name in ("unit_of_measure", "currency") if name in fields]
    if frozen:
        changed = " or ".join(f"m.{name} <> s.{name}" for name in frozen)
        rows = await fetch(_DROP_FROZEN.format(changed=changed))
        revoke(rows, "unit_of_measure", "or currency is not the one in which the material's ledger is written")


async def _write(
    ctx: Context, site_id: str, fields: Sequence[str], report: ReportBuilder, import_id: UUID
) -> dict[str, int]:
    written = await fetch(
        _WRITE.format(
            all_fields=", ".join(FIELDS),
            sets=", ".join(f"{name} = excluded.{name}" for name in fields),
            old=", ".join(f"old.{name}" for name in fields),
            new=", ".join(f"excluded.{name}" for name in fields),
        ),
        site_id,
        ctx.clock(),
    )
    await execute(_LOCATIONS, site_id, ctx.clock())
    await execute("drop table material_staged")
    created = [row["material_id"] for row in written if row["created"]]
    updated = [row["material_id"] for row in written if not row["created"]]
    for action, material_ids in (("material.create", created), ("material.change", updated)):
        await record_many(
            ctx,
            action=action,
            object_kind="material",
            object_ids=material_ids,
            site_id=site_id,
            details={"import_id": import_id, "fields": fields},
        )
    if "reorder_level" in fields:
        await reorder.look_at_ids(ctx, updated)
    return {
        "created": len(created),
        "updated": len(updated),
        "unchanged": report.rows_accepted - len(created) - len(updated),
    }
