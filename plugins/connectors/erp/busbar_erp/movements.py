"""Stock transactions as material documents: posted once, cancelled by another document, never changed."""

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from busbar.sdk import Attempt, Endpoint, NothingToTell, Permanent, Receipt
from busbar_erp import codes, documents
from busbar_erp.client import ODataClient
from busbar_erp.connection import client_of
from busbar_erp.documents import Document, Kind
from busbar_erp.facts import StockChanged
from busbar_erp.failures import translated
from busbar_erp.model import MATERIAL_DOCUMENTS, entity_set_of
from busbar_erp.overrides import Fields, overridden
from busbar_erp.settings import ErpSettings
from busbar_erp.values import Value, cut

HEADERS, ITEMS = "A_MaterialDocumentHeader", "A_MaterialDocumentItem"
KEY = ("MaterialDocumentYear", "MaterialDocument")
ORDER_ITEM_DEFAULT = "00010"

CODES = {"101": "01", "501": "05", "201": "03", "261": "03", "311": "04", "701": "05", "702": "03"}
"""Movement type to GoodsMovementCode. Those of 701 and 702 are general knowledge, not verified."""


async def post(endpoint: Endpoint, attempt: Attempt, facts: StockChanged) -> Receipt:
    """Post the material document of a stock transaction, or cancel the one that it takes back; once.

    Raises Permanent, Retryable, RateLimited or AuthExpired.
    """
    if facts.reverses_transaction_id is not None:
        return await _cancel(endpoint, attempt, facts, facts.reverses_transaction_id)
    body = body_of_new(facts, await known_of(endpoint, facts), attempt, endpoint.settings)
    document = await reserve(endpoint, "movement", facts)
    client, headers = client_of(endpoint), {"X-Correlation-ID": attempt.correlation_id}
    if (known := await _number(endpoint, client, document, headers)) is not None:
        return Receipt(remote_id=known, detail=f"SAP has it as material document {known}.", duplicate=True)
    sent = {**body, "ReferenceDocument": document.short_id}
    with translated(endpoint, changing=True):
        made = await client.create(MATERIAL_DOCUMENTS, HEADERS, sent, headers=headers)
    number = _number_of(made)
    await documents.learn(document, remote_id=number)
    [line] = body["to_MaterialDocumentItem"]
    detail = f"Material document {number} was posted with movement type {line['GoodsMovementType']}."
    return Receipt(remote_id=number, detail=detail)


async def _cancel(endpoint: Endpoint, attempt: Attempt, facts: StockChanged, original: str) -> Receipt:
    """Cancel the material document of an earlier transaction; SAP makes a new document of it."""
    posted = await documents.find(endpoint.endpoint_id, "movement", original)
    client, headers = client_of(endpoint), {"X-Correlation-ID": attempt.correlation_id}
    number = None if posted is None else await _number(endpoint, client, posted, headers)
    if number is None:
        raise Permanent(missing(original))
    year, _, name = number.partition("/")
    document = await reserve(endpoint, "reversal", facts)
    with translated(endpoint, changing=False):
        reversed_by = await client.find(
            MATERIAL_DOCUMENTS,
            ITEMS,
            {"ReversedMaterialDocumentYear": year, "ReversedMaterialDocument": name},
            top=1,
            headers=headers,
        )
    if reversed_by:
        found = _number_of(reversed_by[0])
        await documents.learn(document, remote_id=found)
        return Receipt(remote_id=found, detail=f"Document {number} is cancelled already.", duplicate=True)
    day = posting_date(facts, endpoint.settings)
    arguments: dict[str, Value] = {"MaterialDocumentYear": year, "MaterialDocument": name, "PostingDate": day}
    with translated(endpoint, changing=True):
        made = await client.call(MATERIAL_DOCUMENTS, "Cancel", arguments, headers=headers)
    found = _number_of(made)
    await documents.learn(document, remote_id=found)
    return Receipt(remote_id=found, detail=f"Material document {number} was cancelled by {found}.")


async def _number(endpoint: Endpoint, client: ODataClient, document: Document, headers: dict[str, str]) -> str | None:
    """Year and number of a document: as an answer told them, else as SAP finds them by the short id."""
    if document.remote_id is not None:
        return document.remote_id
    with translated(endpoint, changing=False):
        found = await client.find(**looked_for(document.short_id), headers=headers)
    if not found:
        return None
    number = _number_of(found[0])
    await documents.learn(document, remote_id=number)
    return number


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the mapping table knows of the documents that a transaction refers to."""

    purchase_order: str = ""
    purchase_order_item: str = ""
    """Of the requisition that is received, where its number has come back from SAP."""
    order: str | None = None
    """The maintenance order of the ticket that material is issued for."""


async def known_of(endpoint: Endpoint, facts: StockChanged) -> Known:
    """Look it up in the mapping table."""
    if facts.transaction_type == "receipt" and facts.requisition_id is not None:
        ordered = await documents.find(endpoint.endpoint_id, "requisition", facts.requisition_id)
        if ordered is not None and ordered.purchase_order:
            item = ordered.purchase_order_item or ORDER_ITEM_DEFAULT
            return Known(purchase_order=ordered.purchase_order, purchase_order_item=item)
    if facts.transaction_type == "issue" and facts.ticket_id is not None:
        order = await documents.find(endpoint.endpoint_id, "order", facts.ticket_id)
        return Known(order=None if order is None else order.remote_id)
    return Known()


async def reserve(endpoint: Endpoint, kind: Kind, facts: StockChanged) -> Document:
    """The document of a transaction, with its short id."""
    settings: ErpSettings = endpoint.settings
    return await documents.reserve(
        endpoint.endpoint_id,
        kind,
        facts.transaction_id,
        ticket_id=facts.ticket_id,
        prefix=settings.reference_prefix,
        now=endpoint.clock(),
    )


def looked_for(short_id: str) -> dict[str, Any]:
    """How a document is asked for; its reversal may carry its reference too: the first is the document itself."""
    return {
        "service": MATERIAL_DOCUMENTS,
        "entity_set": HEADERS,
        "equal": {"ReferenceDocument": short_id},
        "order_by": ",".join(KEY),
        "top": 1,
    }


def missing(original: str) -> str:
    """What is wrong when a transaction takes one back that SAP does not have."""
    return f"SAP does not have transaction {original}, which this one takes back; replay that one first."


def posting_date(facts: StockChanged, settings: ErpSettings) -> date:
    """The calendar day of a transaction."""
    return facts.posted_at.astimezone(ZoneInfo(settings.time_zone)).date()


def body_of_new(facts: StockChanged, known: Known, attempt: Attempt, settings: ErpSettings) -> dict[str, Any]:
    """The deep insert of a material document with its one item.

    Raises Permanent, or NothingToTell for a transfer within one location of SAP's.
    """
    line = _line(facts, known, settings)
    if line.get("StorageLocation") == line.get("IssuingOrReceivingStorageLoc"):
        raise NothingToTell(f"Both locations are {line['StorageLocation']} in SAP.")
    day = posting_date(facts, settings)
    header: Fields = {
        "PostingDate": day,
        "DocumentDate": day,
        "GoodsMovementCode": CODES[line["GoodsMovementType"]],
        "MaterialDocumentHeaderText": cut(" ".join(filter(None, ("Busbar", facts.posted_by))), 25),
    }
    kinds = [entity_set_of(MATERIAL_DOCUMENTS, name) for name in (ITEMS, HEADERS)]
    overridden(attempt.document, (kinds[0], line), (kinds[1], header))
    return {**header, "to_MaterialDocumentItem": [line]}


def _line(facts: StockChanged, known: Known, settings: ErpSettings) -> Fields:
    """The document's one item, with what its movement type needs. Raises Permanent."""
    line: Fields = {
        "Material": codes.material(facts.material_id, settings),
        "Plant": settings.plant,
        "StorageLocation": codes.storage_location(facts.storage_location, settings),
        "QuantityInEntryUnit": abs(facts.quantity_change),
        "EntryUnit": codes.unit(facts.unit_of_measure, settings),
    }
    if facts.note:
        line["MaterialDocumentItemText"] = cut(facts.note, 50)
    match facts.transaction_type:
        case "receipt":
            return line | _receipt(known)
        case "issue":
            return line | _issue(facts, known, settings)
        case "transfer":
            to = codes.storage_location(facts.to_storage_location or "", settings)
            there = {"IssuingOrReceivingPlant": settings.plant, "IssuingOrReceivingStorageLoc": to}
            return line | there | {"GoodsMovementType": "311"}
        case "adjustment":
            return line | {"GoodsMovementType": "701" if facts.quantity_change > 0 else "702"}
    raise Permanent(f"SAP has no movement type for a {facts.transaction_type}.")


def _receipt(known: Known) -> Fields:
    """101 against the purchase order, where its number has come back from SAP; 501 without."""
    if not known.purchase_order:
        return {"GoodsMovementType": "501"}
    return {
        "GoodsMovementType": "101",
        "GoodsMovementRefDocType": "B",
        "PurchaseOrder": known.purchase_order,
        "PurchaseOrderItem": known.purchase_order_item,
    }


def _issue(facts: StockChanged, known: Known, settings: ErpSettings) -> Fields:
    """261 to the maintenance order, where SAP has it; else 201 to a cost center. Raises Permanent."""
    if known.order is not None:
        return {"GoodsMovementType": "261", "ManufacturingOrder": known.order}
    if facts.cost_center_id is not None:
        return {"GoodsMovementType": "201", "CostCenter": codes.cost_center(facts.cost_center_id, settings)}
    if settings.default_cost_center is not None:
        return {"GoodsMovementType": "201", "CostCenter": settings.default_cost_center}
    raise Permanent(
        "The issue names no cost center, and SAP has no order for it: enter default_cost_center in the settings."
    )


def _number_of(entity: dict[str, Any]) -> str:
    """Year and number: SAP begins anew each year."""
    return "/".join(str(entity[name]) for name in KEY)
