"""Readings of an asset's counters and gauges; what they make due is opened in the same transaction (SAP PM)."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import asyncpg
import msgspec

from busbar.sdk import (
    Conflict,
    Context,
    FieldError,
    InvalidPayload,
    NotFound,
    Page,
    SortColumn,
    Where,
    columns_of,
    execute,
    fetch_page,
    fetchval,
    module_scope,
    page_request,
    record,
    transaction,
    uuid7,
)
from busbar_pm.incidents import FUTURE_MAX
from busbar_pm.plan_calls import Call, follow_measurement


class NewMeasurement(msgspec.Struct, frozen=True, kw_only=True):
    """A reading."""

    name: str
    """What was read, such as `operating_hours` or `oil_temperature`."""
    value: Decimal
    unit: str = ""
    taken_at: datetime | None = None
    """Now if left out."""
    source_ref: str | None = None
    """The reading's own id where it came from; the same one is not taken twice of an asset."""


class PostedMeasurement(msgspec.Struct, frozen=True, kw_only=True):
    """What was kept, and the orders that it made due."""

    measurement_id: str
    calls: tuple[Call, ...]


async def post(ctx: Context, asset_id: str, new: NewMeasurement) -> PostedMeasurement:
    """Keep a reading and open the orders that it makes due.

    Raises:
        NotFound: there is no such asset at the actor's sites.
        InvalidPayload: it was taken in the future.
        Conflict: the asset has a reading with this `source_ref`; it was not taken again.
    """
    ctx.require("pm.write")
    now = ctx.clock()
    taken_at = new.taken_at or now
    if taken_at > now + FUTURE_MAX:
        error = FieldError(field="taken_at", message="lies in the future")
        raise InvalidPayload("The reading lies in the future.", errors=[error])
    measurement_id = uuid7()
    async with transaction():
        site_id = await fetchval(
            "select site_id from pm.asset where asset_id = $1 and site_id = any($2)",
            asset_id,
            await module_scope(ctx, "pm"),
        )
        if site_id is None:
            raise NotFound(f"There is no asset {asset_id}.")
        try:
            await execute(
                "insert into pm.measurement (measurement_id, asset_id, name, value, unit, taken_at, source_ref, "
                "recorded_at, recorded_by) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                measurement_id,
                asset_id,
                new.name,
                new.value,
                new.unit,
                taken_at,
                new.source_ref,
                now,
                ctx.actor.username,
            )
        except asyncpg.UniqueViolationError:
            raise Conflict(f"There is a reading with the source reference {new.source_ref} already.") from None
        await record(
            ctx,
            action="measurement.post",
            object_kind="asset",
            object_id=asset_id,
            site_id=site_id,
            details={"name": new.name, "value": new.value, "taken_at": taken_at},
        )
        calls = await follow_measurement(ctx, asset_id, new.name, new.value, measurement_id=measurement_id)
    return PostedMeasurement(measurement_id=str(measurement_id), calls=tuple(calls))


class MeasurementView(msgspec.Struct, frozen=True, kw_only=True):
    """A reading."""

    measurement_id: UUID
    name: str
    value: Decimal
    unit: str
    taken_at: datetime
    source_ref: str | None
    recorded_at: datetime
    recorded_by: str


MEASUREMENT_SORT = {
    "taken_at": SortColumn(sql="taken_at", type=datetime),
    "measurement_id": SortColumn(sql="measurement_id", type=UUID),
}


async def list_measurements(where: Where, *, limit: int, cursor: str | None, sort: str | None) -> Page[MeasurementView]:
    """A page of readings, the latest first unless `sort` says otherwise."""
    asked = page_request(
        limit=limit, cursor=cursor, sort=sort, columns=MEASUREMENT_SORT, default="-taken_at", key="measurement_id"
    )
    return await fetch_page(
        asked,
        where,
        columns=columns_of(MeasurementView),
        source="pm.measurement",
        to_item=lambda row: MeasurementView(**row),
    )
