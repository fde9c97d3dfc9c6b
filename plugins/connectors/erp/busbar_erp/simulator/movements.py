"""Goods movements of the simulated system: which type goes with which code, what it does to stock, and its reversal."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from busbar_erp.model import MATERIAL_DOCUMENTS, STOCK, EntitySet, entity_set_of
from busbar_erp.simulator.messages import ODataError
from busbar_erp.simulator.store import Row, Store, empty_row

TYPES: dict[str, tuple[int, tuple[str, ...]]] = {
    "101": (1, ("01",)),
    "201": (-1, ("03",)),
    "261": (-1, ("03",)),
    "311": (-1, ("04",)),
    "501": (1, ("05",)),
    "561": (1, ("05",)),
    "701": (1, ("05",)),
    "702": (-1, ("03",)),
}
"""Movement type: what it does to the stock of its storage location, and the codes that it is posted with."""
NEEDED = {
    "101": ("PurchaseOrder", "PurchaseOrderItem"),
    "201": ("CostCenter",),
    "261": ("ManufacturingOrder",),
    "311": ("IssuingOrReceivingStorageLoc",),
}
UNRESTRICTED = "01"


class Applications(Protocol):
    """What posting a document needs of the other applications."""

    store: Store

    def put_below(self, entity_set: EntitySet, parent: Row, children: Any, *, now: datetime) -> None: ...


def check(store: Store, header: Row, item: Row) -> None:
    """Raise ODataError for an item that cannot be posted."""
    kind = item.get("GoodsMovementType") or ""
    if kind not in TYPES or header["GoodsMovementCode"] not in TYPES[kind][1]:
        raise ODataError(400, "M7/026", f"Movement type {kind} is not allowed with code {header['GoodsMovementCode']}.")
    needed = ("Material", "Plant", "StorageLocation", "EntryUnit", "QuantityInEntryUnit", *NEEDED.get(kind, ()))
    if missing := [name for name in needed if not item.get(name)]:
        raise ODataError(
            400,
            "M7/018",
            f"Enter {missing[0]}.",
            details=[("M7/018", f"Enter {name}.", name) for name in missing],
        )
    if item["QuantityInEntryUnit"] <= 0:
        raise ODataError(400, "M7/022", "Enter a quantity greater than zero.")


def put_document(applications: Applications, header: Row, items: list[tuple[Row, Any]], *, now: datetime) -> Row:
    """Store a document under the next number of its year."""
    kind = entity_set_of(MATERIAL_DOCUMENTS, "A_MaterialDocumentHeader")
    number = applications.store.next_number("material_document", first=4900000001)
    year = str(header["PostingDate"].year)
    stored = {**header, "MaterialDocument": number, "MaterialDocumentYear": year}
    stored = applications.store.put(kind, stored, now=now)
    base = [({**item, **_base_quantity(item)}, below) for item, below in items]
    applications.put_below(kind, stored, {"to_MaterialDocumentItem": base}, now=now)
    return stored


def move(store: Store, item: Row, *, now: datetime, sign: int = 1) -> None:
    """Change the stock as an item says; `sign` -1 takes it back."""
    change = sign * TYPES[item["GoodsMovementType"]][0] * item["QuantityInEntryUnit"]
    _add(store, item, item["StorageLocation"], change, now=now)
    if item["GoodsMovementType"] == "311":
        _add(store, item, item["IssuingOrReceivingStorageLoc"], -change, now=now)


def cancel(applications: Applications, header: Row, posting_date: datetime, *, now: datetime) -> Row:
    """Post the reversal of a document: the types plus one, the stock back. Raises ODataError the second time."""
    store = applications.store
    heads = entity_set_of(MATERIAL_DOCUMENTS, "A_MaterialDocumentHeader")
    kind = entity_set_of(MATERIAL_DOCUMENTS, "A_MaterialDocumentItem")
    items = store.children(heads, header, "to_MaterialDocumentItem")
    if any(item["GoodsMovementIsCancelled"] for item in items):
        raise ODataError(400, "M7/318", f"Document {header['MaterialDocument']} has been reversed already.")
    reversal = {
        **empty_row(heads),
        "PostingDate": posting_date,
        "DocumentDate": posting_date,
        "GoodsMovementCode": "06",
    }
    reversal |= {name: header[name] for name in ("ReferenceDocument", "MaterialDocumentHeaderText", "CreatedByUser")}
    lines: list[tuple[Row, Any]] = []
    for item in items:
        line = {
            **item,
            "MaterialDocumentItem": "",
            "GoodsMovementType": str(int(item["GoodsMovementType"]) + 1),
            "ReversedMaterialDocument": header["MaterialDocument"],
            "ReversedMaterialDocumentYear": header["MaterialDocumentYear"],
        }
        lines.append((line, {}))
        store.put(kind, {**item, "GoodsMovementIsCancelled": True}, now=now)
        move(store, item, now=now, sign=-1)
    return put_document(applications, reversal, lines, now=now)


def stock_of(store: Store, material: str, plant: str, storage_location: str) -> Decimal:
    """Unrestricted stock of a storage location."""
    row = store.get(entity_set_of(STOCK, "A_MatlStkInAcctMod"), _stock_key(material, plant, storage_location))
    return Decimal(0) if row is None else row["MatlWrhsStkQtyInMatlBaseUnit"]


def _add(store: Store, item: Row, storage_location: str, change: Decimal, *, now: datetime) -> None:
    materials, stock = entity_set_of(STOCK, "A_MaterialStock"), entity_set_of(STOCK, "A_MatlStkInAcctMod")
    unit = {"MaterialBaseUnit": item["EntryUnit"]}
    if store.get(materials, {"Material": item["Material"]}) is None:
        store.put(materials, {"Material": item["Material"], **unit}, now=now)
    key = _stock_key(item["Material"], item["Plant"], storage_location)
    quantity = stock_of(store, item["Material"], item["Plant"], storage_location) + change
    store.put(stock, {**key, **unit, "MatlWrhsStkQtyInMatlBaseUnit": quantity}, now=now)


def _stock_key(material: str, plant: str, storage_location: str) -> Row:
    key = dict.fromkeys(entity_set_of(STOCK, "A_MatlStkInAcctMod").keys, "")
    place = {"Material": material, "Plant": plant, "StorageLocation": storage_location}
    return {**key, **place, "InventoryStockType": UNRESTRICTED}


def _base_quantity(item: Row) -> Row:
    return {"QuantityInBaseUnit": item["QuantityInEntryUnit"], "MaterialBaseUnit": item["EntryUnit"]}
