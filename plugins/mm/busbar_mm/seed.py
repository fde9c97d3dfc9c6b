"""Demo data: two stores with materials below, at and above their level, a ledger of every kind, open work."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Literal

import asyncpg
import msgspec

from busbar.sdk import SITES, Context, fetchrow, fetchval, transaction
from busbar_mm import counts, materials, receipts, requisitions, stock
from busbar_mm.books import Posting
from busbar_mm.counts import Counted
from busbar_mm.events import TransactionType
from busbar_mm.materials import MaterialFields

DEMO_SITES: Final = ("north", "south")
COUNT_DESCRIPTION: Final = "Quarterly count"
_RACK, _YARD, _VAN = "RACK-A1", "YARD", "VAN-1"


class DemoMaterial(msgspec.Struct, frozen=True, kw_only=True):
    """A material and what has happened to it; its id follows the site's name."""

    name: str
    description: str
    unit: str = "EA"
    opening: str
    level: str
    buffer: str = "0"
    price: str
    location: str = _RACK
    moves: tuple[tuple[int, TransactionType, str, str], ...] = ()
    """Days ago, kind, quantity, and a note; a transfer leads to the van, a receipt costs a twentieth more."""


class DemoRequisition(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase that somebody asked for."""

    material: str
    quantity: str
    justification: str
    then: Literal["called off", "ordered", "received"] | None = None
    """What becomes of it: called off at once; ordered, or received, once finance has approved it."""


MATERIALS: Final = (
    DemoMaterial(
        name="FUSE-HH-63", description="HV fuse link 10/24 kV 63 A", opening="36", level="12", buffer="6",
        price="86.40",
        moves=((60, "issue", "-6", "Ring main units in the old town"), (30, "receipt", "12", "Delivery note 8812"),
               (12, "transfer", "6", "For the standby crew"), (3, "adjustment", "-1", "Broken in store")),
    ),
    DemoMaterial(
        name="JOINT-24-150", description="Cable joint 24 kV 95-240 mm²", opening="14", level="10", buffer="5",
        price="312.00", moves=((20, "issue", "-3", "Cable fault"), (5, "issue", "-4", "Cable fault at the harbour")),
    ),
    DemoMaterial(
        name="CABLE-NA2XS2Y-150", description="Cable NA2XS(F)2Y 1x150 RM/25 12/20 kV", unit="m", opening="1850.5",
        level="600", buffer="400", price="9.8750", location=_YARD,
        moves=((25, "issue", "-420.5", "New service to the works"), (18, "receipt", "500", "Drum 4471")),
    ),
    DemoMaterial(
        name="TERM-24-150", description="Cable termination 24 kV, indoor, set of 3", opening="8", level="8",
        price="148.90",
    ),
    DemoMaterial(
        name="OIL-NYTRO", description="Transformer oil, inhibited", unit="L", opening="900", level="400", buffer="200",
        price="3.1500", location=_YARD, moves=((14, "issue", "-180", "Topping up"), (9, "adjustment", "4.5", "Dip"),),
    ),
    DemoMaterial(
        name="BEARING-6316", description="Deep groove ball bearing 6316/C3", opening="2", level="2", buffer="2",
        price="118.20", moves=((1, "issue", "-2", "Pump 1, drive end"),),
    ),
    DemoMaterial(
        name="SEAL-PUMP-80", description="Mechanical seal 80 mm", opening="5", level="2", price="412.00",
        moves=((40, "issue", "-1", "Pump 2"), (6, "transfer", "1", "For the standby crew")),
    ),
    DemoMaterial(
        name="CLAMP-DN150", description="Repair clamp DN 150, stainless steel", opening="9", level="4", price="96.00",
    ),
    DemoMaterial(
        name="METER-3P", description="Three-phase meter, direct, 5(60) A", opening="0", level="0", price="64.50",
    ),
)  # fmt: skip
REQUISITIONS: Final = (
    DemoRequisition(material="METER-3P", quantity="120", justification="Meters that leave calibration this year"),
    DemoRequisition(material="CLAMP-DN150", quantity="6", justification="Winter stock", then="ordered"),
    DemoRequisition(material="SEAL-PUMP-80", quantity="4", justification="Refit of the old pumps", then="called off"),
    DemoRequisition(
        material="TERM-24-150", quantity="6", justification="Terminations for the ring at the mill", then="received"
    ),
    DemoRequisition(material="JOINT-24-150", quantity="60", justification="Joints for five years"),
    DemoRequisition(material="OIL-NYTRO", quantity="600", justification="A drum for the summer revision"),
)


async def add_demo_data(ctx: Context) -> None:
    """Fill the demo sites that have materials management enabled; other sites are left alone. Safe to run twice."""
    for site_id in SITES.sites_with("mm"):
        if site_id in DEMO_SITES:
            for material in MATERIALS:
                await _add_material(ctx, site_id, material)
            for requisition in REQUISITIONS:
                await _add_requisition(ctx, site_id, requisition)
            await _add_counts(ctx, site_id)


async def _add_material(ctx: Context, site_id: str, demo: DemoMaterial) -> None:
    material_id = _id(site_id, demo.name)
    if await fetchval("select exists(select from mm.material where material_id = $1)", material_id):
        return
    now = ctx.clock()
    fields = MaterialFields(
        description=demo.description,
        unit_of_measure=demo.unit,
        reorder_level=Decimal(demo.level),
        reorder_buffer=Decimal(demo.buffer),
        storage_location=demo.location,
        unit_price=Decimal(demo.price),
    )
    async with transaction():
        begun = _at(ctx, now - timedelta(days=90))
        await materials.create(begun, material_id, site_id=site_id, fields=fields, quantity=Decimal(demo.opening))
        for days, kind, quantity, note in demo.moves:
            posting = Posting(
                material_id=material_id,
                transaction_type=kind,
                quantity_change=Decimal(quantity),
                to_storage_location=_VAN if kind == "transfer" else None,
                unit_price=Decimal(demo.price) * Decimal("1.05") if kind == "receipt" else None,
                note=note,
            )
            await stock.post(_at(ctx, now - timedelta(days=days)), posting)


async def _add_requisition(ctx: Context, site_id: str, demo: DemoRequisition) -> None:
    material_id = _id(site_id, demo.material)
    known = await fetchrow(
        "select * from mm.purchase_requisition where material_id = $1 and justification = $2",
        material_id,
        demo.justification,
    )
    if known is not None:
        if known["status"] == "approved":
            await _go_on(ctx, demo, known)
        return
    now = ctx.clock()
    async with transaction():
        opened = await requisitions.create(
            _at(ctx, now - timedelta(days=4)),
            material_id,
            quantity=Decimal(demo.quantity),
            cost_center_id=None,
            justification=demo.justification,
        )
        if demo.then == "called off":
            decided = _at(ctx, now - timedelta(days=2))
            await requisitions.call_off(decided, opened.requisition_id, reason="The pumps are to be replaced.")


async def _go_on(ctx: Context, demo: DemoRequisition, known: asyncpg.Record) -> None:
    """What follows on an approval."""
    if demo.then == "ordered":
        await requisitions.place_order(ctx, known["requisition_id"], external_number="4500001187")
    elif demo.then == "received":
        posting = Posting(
            material_id=known["material_id"],
            transaction_type="receipt",
            quantity_change=known["quantity"],
            requisition_id=known["requisition_id"],
            note="Delivery note 9034",
        )
        await receipts.receive(ctx, known["requisition_id"], posting)


async def _add_counts(ctx: Context, site_id: str) -> None:
    """A count of the yard, which found a little more oil, and one of the rack, which goes on."""
    known = "select exists(select from mm.stock_count where site_id = $1 and description = $2)"
    if await fetchval(known, site_id, COUNT_DESCRIPTION):
        return
    begun, counted = ctx.clock() - timedelta(hours=3), ctx.clock() - timedelta(hours=2)
    oil = await fetchval("select quantity from mm.material where material_id = $1", _id(site_id, "OIL-NYTRO"))
    yard = {"OIL-NYTRO": oil + Decimal("1.5")}
    rack = {"CLAMP-DN150": Decimal(9), "TERM-24-150": Decimal(7)}
    async with transaction():
        for location, found in ((_YARD, yard), (_RACK, rack)):
            count_id = await counts.begin(
                _at(ctx, begun),
                site_id=site_id,
                storage_location=location,
                material_ids=[_id(site_id, name) for name in found] if location == _YARD else (),
                description=COUNT_DESCRIPTION,
            )
            lines = [Counted(material_id=_id(site_id, name), counted_quantity=many) for name, many in found.items()]
            await counts.enter(_at(ctx, counted), count_id, lines)
            if location == _YARD:
                await counts.post(_at(ctx, counted), count_id, reason="Dip stick read anew")


def _id(site_id: str, name: str) -> str:
    return f"{site_id.upper()}-{name}"


def _at(ctx: Context, when: datetime) -> Context:
    return msgspec.structs.replace(ctx, clock=lambda: when)
