"""Loads any number of assets in one transaction: staged by COPY, checked as a set, then written by one statement."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from busbar.sdk import (
    ALL_OR_NOTHING,
    CellError,
    Context,
    ReportBuilder,
    copy_rows,
    execute,
    fetch,
    record_many,
    transaction,
)
from busbar_pm.assets import COLUMN_TYPES, DEPTH_MAX, FIELDS, AssetFields, lock_hierarchy, sql_value


class StagedAsset(msgspec.Struct, frozen=True, kw_only=True):
    """An asset as a file has it."""

    line: int
    """Where, for the report."""
    asset_id: str
    fields: AssetFields


_COLUMNS: Final = ("line", "asset_id", *FIELDS)
_STAGE: Final = (
    "create temporary table asset_staged (line int, asset_id text primary key, "
    + ", ".join(f"{name} {COLUMN_TYPES.get(name, 'text')}" for name in FIELDS)
    + ") on commit drop"
)

_DROP_UNKNOWN_TYPE: Final = """
delete from asset_staged s where not exists (select from pm.asset_type t where t.asset_type = s.asset_type)
returning line, asset_type as value
"""
_DROP_FOREIGN: Final = """
delete from asset_staged s using pm.asset a where a.asset_id = s.asset_id and a.site_id <> $1
returning line, s.asset_id as value
"""
# The parent of an asset is the one in the file, or else the stored one. `above` climbs from the parents that are not
# in the file, `placed` descends from there and from the roots; what it does not reach has no place.
_DROP_UNPLACED: Final = """
with recursive above (start, asset_id, depth) as (
    select distinct a.asset_id, a.asset_id, 1 from asset_staged s join pm.asset a on a.asset_id = s.parent_id
    where a.site_id = $1 and not exists (select from asset_staged p where p.asset_id = s.parent_id)
    union all
    select above.start, coalesce(s.parent_id, case when s.asset_id is null then a.parent_id end), above.depth + 1
    from above left join asset_staged s using (asset_id) left join pm.asset a using (asset_id)
    where coalesce(s.parent_id, case when s.asset_id is null then a.parent_id end) is not null and above.depth < $2
), outside as (
    select start, max(depth) as depth from above group by start
), placed (asset_id, depth) as (
    select asset_id, 1 from asset_staged where parent_id is null
    union all
    select s.asset_id, outside.depth + 1 from asset_staged s join outside on outside.start = s.parent_id
    where outside.depth < $2
    union all
    select s.asset_id, placed.depth + 1 from asset_staged s join placed on placed.asset_id = s.parent_id
    where placed.depth < $2
)
delete from asset_staged s where not exists (select from placed where placed.asset_id = s.asset_id)
returning line, parent_id as value, exists (select from asset_staged p where p.asset_id = s.parent_id)
    or exists (select from pm.asset p where p.asset_id = s.parent_id and p.site_id = $1) as known
"""
_WRITE: Final = """
insert into pm.asset as old (asset_id, site_id, created_at, updated_at, {all_fields})
select asset_id, $1, $2, $2, {all_fields} from asset_staged
on conflict (asset_id) do update set {sets}, updated_at = $2, version = old.version + 1
where old.site_id = $1 and ({old}) is distinct from ({new})
returning asset_id, xmax = 0 as created
"""


async def load_assets(
    ctx: Context,
    batches: AsyncIterator[Sequence[StagedAsset]],
    *,
    site_id: str,
    mode: str,
    report: ReportBuilder,
    import_id: UUID,
    fields: Sequence[str] = FIELDS,
) -> dict[str, int]:
    """Add the assets that are new and change those that the site has; returns how many of each.

    Children may come before their parents. Of an asset that is there, only `fields` are changed. Each of `batches` is
    counted as accepted in `report` already; assets that cannot be stored (unknown type, id of another site, no place in
    the hierarchy, or a parent that cannot be stored) are revoked. With `mode` all or nothing, a report that has any
    rejected row at the end means that nothing is written.
    """
    async with transaction():
        await execute("set local statement_timeout = '10min'")
        await execute("set local idle_in_transaction_session_timeout = '10min'")
        await execute(_STAGE)
        async for batch in batches:
            rows = [_row(asset) for asset in batch]
            await copy_rows("asset_staged", schema="pg_temp", columns=_COLUMNS, rows=rows)
        await execute("create index on asset_staged (parent_id)")
        await execute("analyze asset_staged")
        await lock_hierarchy(site_id)
        await _drop_bad(site_id, report)
        if report.rows_rejected and mode == ALL_OR_NOTHING:
            await execute("drop table asset_staged")
            return {"withheld": report.rows_accepted}
        return await _write(ctx, site_id, fields, report, import_id)


async def _drop_bad(site_id: str, report: ReportBuilder) -> None:
    def revoke(row: Any, field: str, message: str) -> None:
        report.revoke(row["line"], [CellError(field=field, value=row["value"] or "", message=message)])

    for row in await fetch(_DROP_UNKNOWN_TYPE):
        revoke(row, "asset_type", "is not a known type of asset")
    for row in await fetch(_DROP_FOREIGN, site_id):
        revoke(row, "asset_id", "is the id of an asset at another site")
    # Once more after each loss, for a row may have been placed by way of one that is gone now.
    while unplaced := await fetch(_DROP_UNPLACED, site_id, DEPTH_MAX):
        for row in unplaced:
            revoke(
                row,
                "parent_id",
                f"is rejected itself, lies below the asset, or is {DEPTH_MAX} levels deep already"
                if row["known"]
                else "is neither an asset of this site nor in the file",
            )


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
    await execute("drop table asset_staged")
    created = [row["asset_id"] for row in written if row["created"]]
    updated = [row["asset_id"] for row in written if not row["created"]]
    for action, asset_ids in (("asset.create", created), ("asset.change", updated)):
        await record_many(
            ctx,
            action=action,
            object_kind="asset",
            object_ids=asset_ids,
            site_id=site_id,
            details={"import_id": import_id, "fields": fields},
        )
    return {
        "created": len(created),
        "updated": len(updated),
        "unchanged": report.rows_accepted - len(created) - len(updated),
    }


def _row(asset: StagedAsset) -> tuple[Any, ...]:
    return (asset.line, asset.asset_id, *(sql_value(getattr(asset.fields, name)) for name in FIELDS))
