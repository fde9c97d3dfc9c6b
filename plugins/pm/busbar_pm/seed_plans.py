"""Demo data: a maintenance plan of each kind, readings that made some of them due, and failures with their codes."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec

from busbar.sdk import Context, fetch, fetchval, transaction
from busbar_pm import incident_changes, measurements, plan_calls, plans
from busbar_pm.measurements import NewMeasurement
from busbar_pm.order_work import ChecklistItem, PlannedComponent, PlannedLabour
from busbar_pm.plan_triggers import Calendar, Condition, IncidentTrigger, Meter
from busbar_pm.plans import OrderTemplate, PlanFields

FITTER_RATE: Final = Decimal("62.50")


class DemoReading(msgspec.Struct, frozen=True, kw_only=True):
    """A reading of an asset. The asset's id follows the site's name."""

    asset: str
    name: str
    value: str
    unit: str
    days_ago: int


def plans_of(site_id: str, today: date) -> tuple[PlanFields, ...]:
    """The plans of a demo site; the calendar's first date is such that its order is open now."""
    site = site_id.upper()
    inspection = OrderTemplate(
        order_type="preventive",
        description="Half-yearly inspection of the transformer",
        checklist=(
            ChecklistItem(text="Oil level and leaks"),
            ChecklistItem(text="Silica gel of the breather"),
            ChecklistItem(text="Photograph the bushings", mandatory=False),
        ),
        labour=(PlannedLabour(description="Fitter", hours=Decimal(3), hourly_rate=FITTER_RATE),),
    )
    service = OrderTemplate(
        order_type="preventive",
        description="Service after 2,000 hours of operation",
        checklist=(ChecklistItem(text="Isolated and locked"), ChecklistItem(text="Bearing temperature after 1 h")),
        labour=(PlannedLabour(description="Mechanic", hours=Decimal(5), hourly_rate=FITTER_RATE),),
        components=(PlannedComponent(material_id=f"{site}-SEAL-PUMP-80", quantity=Decimal(1)),),
    )
    cooling = OrderTemplate(order_type="corrective", description="Check the cooling: the oil is too hot")
    patrol = OrderTemplate(
        order_type="emergency",
        description="Patrol the feeder and make it safe",
        checklist=(ChecklistItem(text="Site made safe"),),
        labour=(PlannedLabour(description="Line crew", hours=Decimal(4), hourly_rate=Decimal("118.00")),),
    )
    half_yearly = Calendar(every=6, unit="months", first_due=today + timedelta(days=10))
    return (
        PlanFields(
            name="Half-yearly inspection", asset_id=f"{site}-TRF-012", trigger=half_yearly, template=inspection,
            lead_days=14,
        ),
        PlanFields(
            name="Service by hours of operation", asset_id=f"{site}-PUMP-02", template=service, lead_days=7,
            trigger=Meter(measurement="operating_hours", every=Decimal(2_000), ahead=Decimal(100)),
        ),
        PlanFields(
            name="Oil too hot", asset_id=f"{site}-TRF-011", template=cooling, lead_days=2,
            trigger=Condition(measurement="oil_temperature", above=Decimal(85), hysteresis=Decimal(10)),
        ),
        PlanFields(
            name="Outage of a feeder", asset_type="feeder", template=patrol, active=False,
            trigger=IncidentTrigger(fault_types=("outage",), severities=("P1", "P2")),
        ),
    )  # fmt: skip


READINGS: Final = (
    DemoReading(asset="PUMP-02", name="operating_hours", value="1480", unit="h", days_ago=40),
    DemoReading(asset="PUMP-02", name="operating_hours", value="1925", unit="h", days_ago=12),
    DemoReading(asset="TRF-011", name="oil_temperature", value="72.5", unit="°C", days_ago=9),
    DemoReading(asset="TRF-011", name="oil_temperature", value="91.0", unit="°C", days_ago=3),
    DemoReading(asset="TRF-011", name="oil_temperature", value="88.5", unit="°C", days_ago=1),
)
CODES: Final[dict[str, dict[str, str]]] = {
    "Storm": {"object_part": "conductor", "damage": "short_circuit", "cause": "vegetation", "detection": "protection"},
    "Third party": {"object_part": "cable", "damage": "broken", "cause": "third_party", "detection": "protection"},
    "Ageing": {"object_part": "joint", "damage": "insulation_breakdown", "cause": "ageing"},
    "Animal": {"object_part": "bushing", "damage": "earth_fault", "cause": "animal", "detection": "protection"},
    "Tree": {"object_part": "conductor", "damage": "broken", "cause": "vegetation", "detection": "customer"},
    "Burst main": {"object_part": "pipe", "damage": "broken", "detection": "customer"},
}
"""By the first words of an incident's description; of the others the codes are unknown, as they often are."""


async def add_plans(ctx: Context, site_id: str) -> None:
    """Add the plans, readings and codes of a demo site; what is there already is left alone."""
    for fields in plans_of(site_id, ctx.clock().date()):
        known = "select exists(select from pm.maintenance_plan where site_id = $1 and name = $2)"
        if not await fetchval(known, site_id, fields.name):
            await plans.create(ctx, fields, site_id=site_id)
    for number, reading in enumerate(READINGS):
        await _add_reading(ctx, site_id, number, reading)
    due = "select plan_id from pm.maintenance_plan where site_id = $1 and kind = 'calendar' and active"
    for row in await fetch(due, site_id):
        await plan_calls.call_calendar_plan(ctx, row["plan_id"])
    await _add_codes(ctx, site_id)


async def _add_reading(ctx: Context, site_id: str, number: int, reading: DemoReading) -> None:
    asset_id, source_ref = f"{site_id.upper()}-{reading.asset}", f"demo-{number:03}"
    known = "select exists(select from pm.measurement where asset_id = $1 and source_ref = $2)"
    if await fetchval(known, asset_id, source_ref):
        return
    taken_at = ctx.clock() - timedelta(days=reading.days_ago)
    await measurements.post(
        msgspec.structs.replace(ctx, clock=lambda: taken_at),
        asset_id,
        NewMeasurement(name=reading.name, value=Decimal(reading.value), unit=reading.unit, source_ref=source_ref),
    )


async def _add_codes(ctx: Context, site_id: str) -> None:
    rows = await fetch(
        "select incident_id, description from pm.incident where site_id = $1 and source_ref like 'demo-%' "
        "and object_part = 'unknown' and restored_at is not null order by source_ref",
        site_id,
    )
    async with transaction():
        for row in rows:
            for words, codes in CODES.items():
                if row["description"].startswith(words):
                    await incident_changes.change(ctx, UUID(str(row["incident_id"])), codes=codes)
