"""Stock transactions as material documents: posted once, cancelled by another document, never changed."""

from typing import Any
from zoneinfo import ZoneInfo

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
    settings: ErpSettings = endpoint.settings
    line = await _line(endpoint, facts, settings)
    if line.get("StorageLocation") == line.get("IssuingOrReceivingStorageLoc"):
        raise NothingToTell(f"Both locations are {line['StorageLocation']} in SAP.")
    body = _body(facts, line, attempt, settings)
    document = await _reserve(endpoint, "movement", facts.transaction_id, facts)
    client, headers = client_of(endpoint), {"X-Correlation-ID": attempt.correlation_id}
    if (known := await _number(endpoint, client, document, headers)) is not None:
        return Receipt(remote_id=known, detail=f"SAP has it as material document {known}.", duplicate=True)
    body["ReferenceDocument"] = document.short_id
    with translated(endpoint, changing=True):
        made = await client.create(MATERIAL_DOCUMENTS, HEADERS, body, headers=headers)
    number = _number_of(made)
    await documents.learn(document, remote_id=number)
    detail = f"Material document {number} was posted with movement type {line['GoodsMovementType']}."
    return Receipt(remote_id=number, detail=detail)


async def _cancel(endpoint: Endpoint, attempt: Attempt, facts: StockChanged, original: str) -> Receipt:
    """Cancel the material document of an earlier transaction; SAP makes a new document of it."""
    posted = await documents.find(endpoint.endpoint_id, "movement", original)
    client, headers = client_of(endpoint), {"X-Correlation-ID": attempt.correlation_id}
    number = None if posted is None else await _number(endpoint, client, posted, headers)
    if number is None:
        raise Permanent(f"SAP does not have transaction {original}, which this one takes back; replay that one first.")
    year, _, name = number.partition("/")
    document = await _reserve(endpoint, "reversal", facts.transaction_id, facts)
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
    day = facts.posted_at.astimezone(ZoneInfo(endpoint.settings.time_zone)).date()
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
        # The reversal of a document may carry its reference: the first is the document itself.
        found = await client.find(
            MATERIAL_DOCUMENTS,
            HEADERS,
            {"ReferenceDocument": document.short_id},
            order_by="MaterialDocumentYear,MaterialDocument",
            top=1,
            headers=headers,
        )
    if not found:
        return None
    number = _number_of(found[0])
    await documents.learn(document, remote_id=number)
    return number


async def _reserve(endpoint: Endpoint, kind: Kind, subject: str, facts: StockChanged) -> Document:
    settings: ErpSettings = endpoint.settings
    return await documents.reserve(
        endpoint.endpoint_id,
        kind,
        subject,
        ticket_id=facts.ticket_id,
        prefix=settings.reference_prefix,
        now=endpoint.clock(),
    )


async def _line(endpoint: Endpoint, facts: StockChanged, settings: ErpSettings) -> Fields:
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
            return line | await _receipt(endpoint, facts)
        case "issue":
            return line | await _issue(endpoint, facts, settings)
        case "transfer":
            to = codes.storage_location(facts.to_storage_location or "", settings)
            there = {"IssuingOrReceivingPlant": settings.plant, "IssuingOrReceivingStorageLoc": to}
            return line | there | {"GoodsMovementType": "311"}
        case "adjustment":
            return line | {"GoodsMovementType": "701" if facts.quantity_change > 0 else "702"}
    raise Permanent(f"SAP has no movement type for a {facts.transaction_type}.")


async def _receipt(endpoint: Endpoint, facts: StockChanged) -> Fields:
    """101 against the purchase order, where its number has come back from SAP; 501 without."""
    ordered = None
    if facts.requisition_id is not None:
        ordered = await documents.find(endpoint.endpoint_id, "requisition", facts.requisition_id)
    if ordered is None or not ordered.purchase_order:
        return {"GoodsMovementType": "501"}
    return {
        "GoodsMovementType": "101",
        "GoodsMovementRefDocType": "B",
        "PurchaseOrder": ordered.purchase_order,
        "PurchaseOrderItem": ordered.purchase_order_item or ORDER_ITEM_DEFAULT,
    }


async def _issue(endpoint: Endpoint, facts: StockChanged, settings: ErpSettings) -> Fields:
    """261 to the maintenance order, where SAP has it; else 201 to a cost center. Raises Permanent."""
    if facts.ticket_id is not None:
        order = await documents.find(endpoint.endpoint_id, "order", facts.ticket_id)
        if order is not None and order.remote_id is not None:
            return {"GoodsMovementType": "261", "ManufacturingOrder": order.remote_id}
    if facts.cost_center_id is not None:
        return {"GoodsMovementType": "201", "CostCenter": codes.cost_center(facts.cost_center_id, settings)}
    if settings.default_cost_center is not None:
        return {"GoodsMovementType": "201", "CostCenter": settings.default_cost_center}
    raise Permanent(
        "The issue names no cost center, and SAP has no order for it: enter default_cost_center in the settings."
    )


def _body(facts: StockChanged, line: Fields, attempt: Attempt, settings: ErpSettings) -> dict[str, Any]:
    day = facts.posted_at.astimezone(ZoneInfo(settings.time_zone)).date()
    header: Fields = {
        "PostingDate": day,
        "DocumentDate": day,
        "GoodsMovementCode": CODES[line["GoodsMovementType"]],
        "MaterialDocumentHeaderText": cut(" ".join(filter(None, ("Busbar", facts.posted_by))), 25),
    }
    kinds = [entity_set_of(MATERIAL_DOCUMENTS, name) for name in (ITEMS, HEADERS)]
    overridden(attempt.document, (kinds[0], line), (kinds[1], header))
    return {**header, "to_MaterialDocumentItem": [line]}


def _number_of(entity: dict[str, Any]) -> str:
    """Year and number: SAP begins anew each year."""
    return "/".join(str(entity[name]) for name in KEY)
