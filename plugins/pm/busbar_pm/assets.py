"""Assets: the network's equipment, with hierarchy, place and the customers behind each (SPEC R2.1)."""

from collections.abc import Sequence
from datetime import date
from typing import Any, Literal

import asyncpg
import msgspec

from busbar.sdk import (
    ANY_VERSION,
    Conflict,
    Context,
    FieldError,
    IfMatch,
    InvalidPayload,
    NotFound,
    RuleViolated,
    execute,
    fetch,
    fetchrow,
    module_scope,
    record,
    transaction,
    uuid7,
)

AssetStatus = Literal["planned", "in_service", "out_of_service", "retired"]
DEPTH_MAX = 40
"""Levels of the hierarchy; deeper ones are refused, so that walking it ends."""


class AssetFields(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of an asset. `None` means unknown."""

    asset_type: str
    name: str
    location: str = ""
    latitude: float | None = None
    longitude: float | None = None
    installation_date: date | None = None
    status: AssetStatus = "in_service"
    parent_id: str | None = None
    customers_served: int = 0
    voltage_kv: float | None = None
    cost_center_id: str | None = None
    """Where the cost of work on it goes, unless the order says otherwise."""
    attributes: dict[str, Any] = {}


FIELDS = AssetFields.__struct_fields__
COLUMN_TYPES = {
    "latitude": "float8",
    "longitude": "float8",
    "installation_date": "date",
    "customers_served": "int",
    "voltage_kv": "float8",
    "attributes": "jsonb",
}

_INSERT = f"""
insert into pm.asset (asset_id, site_id, created_at, updated_at, {", ".join(FIELDS)})
select asset_id, $1, $2, $2, {", ".join(FIELDS)}
from unnest($3::text[], {", ".join(f"${n}::{COLUMN_TYPES.get(f, 'text')}[]" for n, f in enumerate(FIELDS, 4))})
    as a (asset_id, {", ".join(FIELDS)})
"""


def new_asset_id() -> str:
    """An id for an asset that came without one."""
    return f"AST-{uuid7().hex[-12:].upper()}"


async def create(ctx: Context, *, asset_id: str | None, site_id: str, fields: AssetFields) -> str:
    """Add an asset; returns its id.

    Raises:
        NotFound: the site is not the actor's, or lacks plant maintenance.
        Conflict: the id is taken.
        InvalidPayload: the type is unknown, or the parent does not exist at the site.
    """
    ctx.require("pm.write")
    await module_scope(ctx, "pm", site_id)
    asset_id = asset_id or new_asset_id()
    async with transaction():
        await _check_parent(asset_id, site_id, fields.parent_id)
        await insert_many(ctx, site_id, [(asset_id, fields)])
        await record(ctx, action="asset.create", object_kind="asset", object_id=asset_id, site_id=site_id)
    return asset_id


async def insert_many(ctx: Context, site_id: str, assets: Sequence[tuple[str, AssetFields]]) -> None:
    """Add assets, given as (id, fields) pairs with parents before children or in the same call, in one statement.

    Raises:
        Conflict: an id is taken.
        InvalidPayload: a type or a parent is unknown.
    """
    columns = [[sql_value(getattr(fields, name)) for _, fields in assets] for name in FIELDS]
    try:
        async with transaction():
            await execute(_INSERT, site_id, ctx.clock(), [asset_id for asset_id, _ in assets], *columns)
    except asyncpg.UniqueViolationError as error:
        raise Conflict(f"There is such an asset already: {error.detail}") from None
    except asyncpg.ForeignKeyViolationError as error:
        field = "parent_id" if "parent_id" in (error.constraint_name or "") else "asset_type"
        problem = FieldError(field=field, message=error.detail or "does not exist")
        raise InvalidPayload("The asset refers to something that does not exist.", errors=[problem]) from None


async def change(ctx: Context, asset_id: str, changes: dict[str, Any], *, expected: IfMatch = ANY_VERSION) -> int:
    """Change some fields of an asset; returns its new version.

    Raises:
        NotFound: there is no such asset at the actor's sites.
        StaleVersion: somebody else changed it meanwhile.
        InvalidPayload: the type is unknown, or the parent does not exist at the site or lies below the asset.
    """
    async with transaction():
        asset = await lock(ctx, asset_id, expected=expected)
        if not changes:
            return int(asset["version"])
        if "parent_id" in changes:
            await _check_parent(asset_id, asset["site_id"], changes["parent_id"])
        sets = [f"{name} = ${n}::{COLUMN_TYPES.get(name, 'text')}" for n, name in enumerate(changes, start=3)]
        values = [sql_value(value) for value in changes.values()]
        try:
            await execute(
                f"update pm.asset set {', '.join([*sets, 'updated_at = $2', 'version = version + 1'])} "
                "where asset_id = $1",
                asset_id,
                ctx.clock(),
                *values,
            )
        except asyncpg.ForeignKeyViolationError:
            problem = FieldError(field="asset_type", message="is not a known type of asset")
            raise InvalidPayload("The type of asset is not known.", errors=[problem]) from None
        await record(
            ctx,
            action="asset.change",
            object_kind="asset",
            object_id=asset_id,
            site_id=asset["site_id"],
            details={name: msgspec.to_builtins(value) for name, value in changes.items()},
        )
    return int(asset["version"]) + 1


async def remove(ctx: Context, asset_id: str, *, expected: IfMatch = ANY_VERSION) -> None:
    """Delete an asset that nothing refers to; one with orders, plans, incidents or parts below it is retired instead.

    Raises:
        NotFound: there is no such asset at the actor's sites.
        StaleVersion: somebody else changed it meanwhile.
        RuleViolated: something refers to it.
    """
    async with transaction():
        asset = await lock(ctx, asset_id, expected=expected)
        try:
            async with transaction():
                await execute("delete from pm.asset where asset_id = $1", asset_id)
        except asyncpg.ForeignKeyViolationError:
            raise RuleViolated(
                f"The asset {asset_id} has orders, plans, readings, incidents, history or assets below it; "
                "set its status to retired."
            ) from None
        await record(ctx, action="asset.delete", object_kind="asset", object_id=asset_id, site_id=asset["site_id"])


async def lock(ctx: Context, asset_id: str, *, expected: IfMatch = ANY_VERSION) -> asyncpg.Record:
    """The asset's row, locked for the transaction.

    Raises:
        NotFound: there is no such asset at the actor's sites.
        StaleVersion: it is not at the expected version.
    """
    ctx.require("pm.write")
    row = await fetchrow(
        "select * from pm.asset where asset_id = $1 and site_id = any($2) for update",
        asset_id,
        await module_scope(ctx, "pm"),
    )
    if row is None:
        raise NotFound(f"There is no asset {asset_id}.")
    expected.require(row["version"])
    return row


async def lock_hierarchy(site_id: str) -> None:
    """Let moves in the hierarchy of a site take turns, or two of them could close a circle together."""
    await execute("select pg_advisory_xact_lock(hashtextextended('pm.asset hierarchy ' || $1, 0))", site_id)


_ABOVE = """
with recursive above as (
    select asset_id, parent_id, site_id, 1 as depth from pm.asset where asset_id = $1
    union all
    select p.asset_id, p.parent_id, p.site_id, above.depth + 1
    from pm.asset p join above on p.asset_id = above.parent_id
    where above.depth <= $2
)
select asset_id, site_id, depth from above
"""


async def _check_parent(asset_id: str, site_id: str, parent_id: str | None) -> None:
    if parent_id is None:
        return
    await lock_hierarchy(site_id)
    above = await fetch(_ABOVE, parent_id, DEPTH_MAX)
    message = None
    if not above or above[0]["site_id"] != site_id:
        message = "does not exist at this site"
    elif any(row["asset_id"] == asset_id for row in above):
        message = "is the asset itself or lies below it"
    elif len(above) >= DEPTH_MAX:
        message = f"lies {DEPTH_MAX} levels deep already"
    if message is not None:
        raise InvalidPayload(
            "The parent asset cannot be used.", errors=[FieldError(field="parent_id", message=message)]
        )


def sql_value(value: Any) -> Any:
    """A field as asyncpg takes it."""
    return msgspec.json.encode(value).decode() if isinstance(value, dict) else value
