"""Demo data: two small networks, a year of outages, and work in every state that a ticket can have."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from busbar.sdk import (
    SITES,
    Context,
    advance_to,
    cancel,
    change_status,
    fetch,
    fetchval,
    hold,
    record_many,
    reopen,
    resume,
    transaction,
)
from busbar_pm import assets, incident_changes, incidents, order_completion, orders
from busbar_pm.events import FaultType, OrderType, Severity
from busbar_pm.incident_changes import RestorationStep
from busbar_pm.incidents import NewIncident
from busbar_pm.order_completion import Actuals, CostEntry, LabourEntry
from busbar_pm.order_work import ChecklistItem, PlannedComponent, PlannedLabour
from busbar_pm.orders import NewOrder
from busbar_pm.seed_network import TOWNS, assets_of
from busbar_pm.seed_plans import FITTER_RATE, add_plans

Stage = Literal["Open", "Assigned", "In_Progress", "on hold", "resumed", "Closed", "Cancelled", "reopened"]


class DemoIncident(msgspec.Struct, frozen=True, kw_only=True):
    """An incident and how far the work on it has come. The asset's id follows the site's name."""

    asset: str
    fault_type: FaultType
    severity: Severity
    text: str
    hours_ago: float
    stage: Stage = "Open"
    restored: tuple[tuple[int, int], ...] = ()
    """Minutes after the start, and the percentage of the customers restored then; of the last step, the rest."""
    everybody: bool = False
    """Whether the last step restores whoever is left."""


class DemoOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A maintenance order and how far the work has come."""

    asset: str
    order_type: OrderType
    text: str
    due_in_days: int
    stage: Stage = "Open"
    labour: tuple[tuple[str, str], ...] = ()
    """What kind of work, and hours: planned, and worked when the order is closed."""
    components: tuple[tuple[str, str], ...] = ()
    """Material and quantity; the material's id follows the site's name, as in the demo data of the stores."""
    bill: tuple[str, str] | None = None
    """From whom, and how much, when the order is closed."""


INCIDENTS: Final = (
    DemoIncident(
        asset="FDR-011", fault_type="outage", severity="P1", hours_ago=1.5, stage="In_Progress",
        text="Cable fault between ring main units 11A and 11B\nExcavator hit the 20 kV cable; switching is under way.",
        restored=((35, 40), (62, 25)),
    ),
    DemoIncident(
        asset="TRF-011", fault_type="degradation", severity="P2", hours_ago=6, stage="Assigned",
        text="Oil temperature above 90 °C at 70 % load\nSecond fan group does not start.",
    ),
    DemoIncident(
        asset="SWT-012B", fault_type="fault", severity="P3", hours_ago=20, stage="Open",
        text="Remote control does not answer",
    ),
    DemoIncident(
        asset="PUMP-01", fault_type="fault", severity="P2", hours_ago=9, stage="on hold",
        text="Vibration alarm at the drive end bearing\nWaiting for the bearing; pump 2 carries the load.",
    ),
    DemoIncident(
        asset="VLV-01", fault_type="degradation", severity="P4", hours_ago=60, stage="resumed",
        text="Valve closes only to nine tenths",
    ),
    DemoIncident(
        asset="FDR-021", fault_type="outage", severity="P2", hours_ago=52, stage="Closed",
        text="Tree in the overhead line after the storm", restored=((48, 60), (130, 0)), everybody=True,
    ),
    DemoIncident(
        asset="MAIN-01", fault_type="outage", severity="P1", hours_ago=240, stage="Closed",
        text="Burst main at the railway crossing", restored=((95, 55), (310, 0)), everybody=True,
    ),
    DemoIncident(
        asset="SWT-011A", fault_type="fault", severity="P3", hours_ago=96, stage="Cancelled",
        text="Door contact reports open\nReported twice; see the other ticket.",
    ),
    DemoIncident(
        asset="FDR-012", fault_type="fault", severity="P3", hours_ago=120, stage="reopened",
        text="Earth-fault indicator does not reset",
    ),
)  # fmt: skip
ORDERS: Final = (
    DemoOrder(
        asset="SUB-01", order_type="preventive", due_in_days=14, text="Yearly inspection of the substation",
        labour=(("Fitter", "16"), ("Protection engineer", "8")),
    ),
    DemoOrder(
        asset="TRF-011", order_type="preventive", due_in_days=30, text="Oil sample and dissolved gas analysis",
        labour=(("Fitter", "2"),), components=(("OIL-NYTRO", "20"),),
    ),
    DemoOrder(
        asset="SWT-011A", order_type="corrective", due_in_days=-3, stage="Assigned", text="Replace the drive",
        labour=(("Fitter", "6"),), components=(("FUSE-HH-63", "3"),),
    ),
    DemoOrder(asset="FDR-021", order_type="corrective", due_in_days=2, stage="In_Progress", text="Clear the line way"),
    DemoOrder(asset="PUMP-01", order_type="emergency", due_in_days=0, stage="on hold", text="Replace the bearing"),
    DemoOrder(
        asset="PUMP-02", order_type="preventive", due_in_days=-20, stage="Closed", text="Change the shaft seal",
        labour=(("Mechanic", "4.5"),),
    ),
    DemoOrder(
        asset="TRF-012", order_type="preventive", due_in_days=-75, stage="Closed", text="Service the tap changer",
        labour=(("Fitter", "12"),), bill=("Tap changer service of the maker", "3480.00"),
    ),
    DemoOrder(asset="VLV-01", order_type="corrective", due_in_days=-9, stage="Cancelled", text="Regrease the spindle"),
)  # fmt: skip
HISTORY_CAUSES: Final = (
    "Storm: branch in the overhead line",
    "Third party: cable hit during road works",
    "Ageing: cable joint failed",
    "Animal: marten on the transformer",
    "Switching error during planned work",
)
HISTORY_OUTAGES: Final = 26
"""Fortnightly ones through the last year, so that reliability indices have something to say."""


async def add_demo_data(ctx: Context) -> None:
    """Fill the demo sites that have plant maintenance enabled; other sites are left alone. Safe to run twice."""
    for site_id in SITES.sites_with("pm"):
        if site_id in TOWNS:
            await _add_assets(ctx, site_id)
            for number, incident in enumerate((*INCIDENTS, *_history(site_id))):
                await _add_incident(ctx, site_id, number, incident)
            for order in ORDERS:
                await _add_order(ctx, site_id, order)
            await add_plans(ctx, site_id)


async def _add_assets(ctx: Context, site_id: str) -> None:
    there = {row["asset_id"] for row in await fetch("select asset_id from pm.asset where site_id = $1", site_id)}
    missing = [(asset_id, fields) for asset_id, fields in assets_of(site_id) if asset_id not in there]
    if not missing:
        return
    async with transaction():
        await assets.insert_many(ctx, site_id, missing)
        await record_many(
            ctx,
            action="asset.create",
            object_kind="asset",
            object_ids=[asset_id for asset_id, _ in missing],
            site_id=site_id,
        )


def _history(site_id: str) -> Sequence[DemoIncident]:
    feeders = [asset_id.partition("-")[2] for asset_id, fields in assets_of(site_id) if fields.asset_type == "feeder"]
    return [
        DemoIncident(
            asset=feeders[n * 3 % len(feeders)],
            fault_type="outage",
            severity=("P2", "P3", "P2", "P1")[n % 4],
            text=HISTORY_CAUSES[n % len(HISTORY_CAUSES)],
            hours_ago=24 * 14 * (n + 1) + n * 5 % 24,
            stage="Closed",
            restored=((18 + n * 7 % 40, 30 + n * 11 % 50), (75 + n * 23 % 120, 0)),
            everybody=True,
        )
        for n in range(HISTORY_OUTAGES)
    ]


async def _add_incident(ctx: Context, site_id: str, number: int, demo: DemoIncident) -> None:
    source_ref = f"demo-{number:03}"
    known = "select exists(select from pm.incident where site_id = $1 and source_ref = $2)"
    if await fetchval(known, site_id, source_ref):
        return
    started = ctx.clock() - timedelta(hours=demo.hours_ago)
    asset_id = f"{site_id.upper()}-{demo.asset}"
    async with transaction():
        reported = await incidents.report(
            _at(ctx, started + timedelta(minutes=4)),
            NewIncident(
                asset_id=asset_id,
                fault_type=demo.fault_type,
                severity=demo.severity,
                description=demo.text,
                started_at=started,
                source_ref=source_ref,
            ),
        )
        if demo.restored:
            await _restore(ctx, UUID(reported.incident_id), started, demo)
        await _work(ctx, reported.ticket_id, demo.stage, begun=started, hours=demo.hours_ago)


async def _restore(ctx: Context, incident_id: UUID, started: datetime, demo: DemoIncident) -> None:
    sql = "select customers_affected from pm.incident where incident_id = $1"
    affected = await fetchval(sql, incident_id)
    left = affected
    for place, (minutes, percent) in enumerate(demo.restored, start=1):
        is_last = demo.everybody and place == len(demo.restored)
        customers = left if is_last else min(left, affected * percent // 100)
        when = started + timedelta(minutes=minutes)
        step = RestorationStep(restored_at=when, customers_restored=customers, note="Switched to the next feeder")
        await incident_changes.change(_at(ctx, when), incident_id, steps=[step])
        left -= customers


async def _add_order(ctx: Context, site_id: str, demo: DemoOrder) -> None:
    asset_id = f"{site_id.upper()}-{demo.asset}"
    known = "select exists(select from pm.maintenance_order where asset_id = $1 and description = $2)"
    if await fetchval(known, asset_id, demo.text):
        return
    now = ctx.clock()
    due = now + timedelta(days=demo.due_in_days)
    planned = min(now, due) - timedelta(days=10)
    async with transaction():
        order = await orders.plan(
            _at(ctx, planned),
            NewOrder(
                asset_id=asset_id,
                order_type=demo.order_type,
                description=demo.text,
                scheduled_date=due.date(),
                checklist=(ChecklistItem(text="Work permit is there"), ChecklistItem(text="Site is left tidy")),
                labour=tuple(PlannedLabour(**each) for each in _labour(demo)),
                components=tuple(
                    PlannedComponent(material_id=f"{site_id.upper()}-{name}", quantity=Decimal(quantity))
                    for name, quantity in demo.components
                ),
            ),
        )
        order_id = UUID(order.order_id)
        if demo.stage == "Closed":
            await _finish(_at(ctx, due), order_id, demo)
        elif demo.stage == "Cancelled":
            await orders.call_off(_at(ctx, due), order_id, reason="The asset is to be replaced next year.")
        else:
            await _work(ctx, order.ticket_id, demo.stage, begun=planned, hours=(now - planned) / timedelta(hours=1))


async def _finish(ctx: Context, order_id: UUID, demo: DemoOrder) -> None:
    for position in (1, 2):
        await orders.tick(ctx, order_id, position, done=True)
    costs = () if demo.bill is None else (CostEntry(description=demo.bill[0], amount=Decimal(demo.bill[1])),)
    actuals = Actuals(labour=tuple(LabourEntry(**each) for each in _labour(demo)), costs=costs)
    notes = "Done as planned; nothing else was found."
    await order_completion.complete(ctx, order_id, notes=notes, actuals=actuals)


def _labour(demo: DemoOrder) -> list[dict[str, Any]]:
    return [{"description": kind, "hours": Decimal(hours), "hourly_rate": FITTER_RATE} for kind, hours in demo.labour]


async def _work(ctx: Context, ticket_id: str, stage: Stage, *, begun: datetime, hours: float) -> None:
    """Bring a ticket to a stage, at moments between `begun` and so many hours later."""

    def at(share: float) -> Context:
        return _at(ctx, begun + timedelta(hours=hours * share))

    if stage == "Open":
        return
    if stage == "Cancelled":
        await cancel(at(0.3), ticket_id, reason="Reported twice.")
        return
    await change_status(at(0.1), ticket_id, new_status="Assigned")
    if stage == "Assigned":
        return
    await change_status(at(0.25), ticket_id, new_status="In_Progress", comment="The crew is on its way.")
    if stage in ("on hold", "resumed"):
        await hold(at(0.4), ticket_id, reason="Waiting for a spare part.")
    if stage == "resumed":
        await resume(at(0.7), ticket_id, comment="The part is there.")
    if stage in ("Closed", "reopened"):
        await advance_to(at(0.6), ticket_id, target="Closed", comment="Back in normal switching state.")
    if stage == "reopened":
        await reopen(at(0.9), ticket_id, reason="It came back after two days.")


def _at(ctx: Context, moment: datetime) -> Context:
    """The same context at another time."""
    moment = moment.astimezone(UTC)
    return msgspec.structs.replace(ctx, clock=lambda: moment)
