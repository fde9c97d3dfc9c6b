"""Purchase requisitions: made once when they are approved here, flagged for deletion when they are called off."""

from datetime import timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from busbar.sdk import Attempt, Endpoint, NothingToTell, Receipt
from busbar_erp import codes, documents
from busbar_erp.answers import Entity, etag_of
from busbar_erp.client import Change, ODataClient
from busbar_erp.connection import client_of
from busbar_erp.documents import Document
from busbar_erp.facts import RequisitionApproved, RequisitionCancelled, time_of
from busbar_erp.failures import translated
from busbar_erp.model import REQUISITIONS, entity_set_of
from busbar_erp.overrides import Fields, overridden
from busbar_erp.settings import ErpSettings
from busbar_erp.values import cut
from busbar_erp.wording import title

HEADERS, ITEMS = "A_PurchaseRequisitionHeader", "A_PurchaseRequisitionItem"
ITEM_KEY = ("PurchaseRequisition", "PurchaseRequisitionItem")
NUMBER = ("PurchaseRequisition",)
DELIVERY_DAYS: Final = 14
"""The delivery date that is asked for, from the day of the approval; buyers set the real one."""
DELETED = "X"
FLAGGED = {"IsDeleted": DELETED}
NEVER_HAD = "SAP never had this requisition."
TEXT_ID, TEXT_OBJECT = "B01", "EBAN"
"""Item text of a requisition (general knowledge of SAP's text ids)."""
TEXT_CHARACTERS_MAX: Final = 4_000


async def create(endpoint: Endpoint, attempt: Attempt, facts: RequisitionApproved) -> Receipt:
    """Make the purchase requisition of an approved one, unless SAP has it already.

    Raises Permanent, Retryable, RateLimited or AuthExpired.
    """
    body = body_of_new(facts, attempt, endpoint.settings)
    document = await reserve_new(endpoint, facts)
    client, headers = client_of(endpoint), {"X-Correlation-ID": attempt.correlation_id}
    with translated(endpoint, changing=False):
        items = await _items(client, document, headers)
    if items:
        number = str(items[0]["PurchaseRequisition"])
        await documents.learn(document, remote_id=number)
        return Receipt(remote_id=number, detail=f"SAP has it as purchase requisition {number}.", duplicate=True)
    sent = with_reference(body, document.short_id)
    with translated(endpoint, changing=True):
        made = await client.create(REQUISITIONS, HEADERS, sent, headers=headers)
    number = str(made["PurchaseRequisition"])
    await documents.learn(document, remote_id=number, state=_first_state(made))
    return Receipt(remote_id=number, detail=f"Purchase requisition {number} was made, reference {document.short_id}.")


async def withdraw(endpoint: Endpoint, attempt: Attempt, facts: RequisitionCancelled) -> Receipt:
    """Flag the purchase requisition for deletion; one that SAP does not have is not made any more.

    Raises Permanent, Retryable, RateLimited or AuthExpired.
    """
    document = await reserve_withdrawn(endpoint, facts)
    client, headers = client_of(endpoint), {"X-Correlation-ID": attempt.correlation_id}
    with translated(endpoint, changing=False):
        items = await _items(client, document, headers)
    if not items:
        raise NothingToTell(NEVER_HAD)
    number = str(items[0]["PurchaseRequisition"])
    standing = [item for item in items if item.get("IsDeleted") != DELETED]
    if not standing:
        return Receipt(remote_id=number, detail=f"Requisition {number} is flagged already.", duplicate=True)
    deleted = state_of(standing[0] | FLAGGED)
    await documents.learn(document, remote_id=number, intended_state=deleted)
    changes = [
        Change(
            entity_set=ITEMS,
            key={name: item[name] for name in ITEM_KEY},
            fields=FLAGGED,
            etag=etag_of(item),
        )
        for item in standing
    ]
    with translated(endpoint, changing=True):
        await client.change_all(REQUISITIONS, changes, headers=headers)
    await documents.learn(document, state=deleted)
    return Receipt(remote_id=number, detail=f"Purchase requisition {number} was flagged for deletion.")


async def reserve_new(endpoint: Endpoint, facts: RequisitionApproved) -> Document:
    """The document of an approved requisition. Raises NothingToTell for one that was called off meanwhile."""
    document = await _reserve(endpoint, facts)
    if document.withdrawn:
        raise NothingToTell("The requisition was called off before SAP had it.")
    return document


async def reserve_withdrawn(endpoint: Endpoint, facts: RequisitionCancelled) -> Document:
    """The document of a requisition that was called off: from now on it is not made any more."""
    document = await _reserve(endpoint, facts)
    await documents.learn(document, withdrawn=True)
    return document


async def _reserve(endpoint: Endpoint, facts: RequisitionApproved | RequisitionCancelled) -> Document:
    settings: ErpSettings = endpoint.settings
    return await documents.reserve(
        endpoint.endpoint_id,
        "requisition",
        facts.requisition.requisition_id,
        ticket_id=facts.ticket_id,
        prefix=settings.reference_prefix,
        now=endpoint.clock(),
    )


def looked_for(short_id: str) -> dict[str, Any]:
    """How the items with a short id are asked for."""
    return {
        "service": REQUISITIONS,
        "entity_set": ITEMS,
        "equal": {"PurReqnExternalReference": short_id},
        "order_by": ",".join(ITEM_KEY),
    }


def state_of(item: Entity) -> str:
    """What matters to Busbar of a requisition's item: release, processing, order, deletion."""
    names = ("PurReqnReleaseStatus", "ProcessingStatus", "PurchasingDocument", "IsDeleted")
    return "/".join(str(item.get(name) or "") for name in names)


def _first_state(made: Entity) -> str | None:
    """The state in which SAP made it, where the answer to the deep insert tells."""
    items = made.get("to_PurchaseReqnItem")
    listed = items.get("results") if isinstance(items, dict) else None
    return state_of(listed[0]) if isinstance(listed, list) and listed and isinstance(listed[0], dict) else None


async def _items(client: ODataClient, document: Document, headers: dict[str, str]) -> list[Entity]:
    return await client.find(**looked_for(document.short_id), headers=headers)


def with_reference(body: dict[str, Any], short_id: str) -> dict[str, Any]:
    """The deep insert with the short id by which it is found again."""
    [item] = body["to_PurchaseReqnItem"]
    return {**body, "to_PurchaseReqnItem": [{**item, "PurReqnExternalReference": short_id}]}


def body_of_new(facts: RequisitionApproved, attempt: Attempt, settings: ErpSettings) -> dict[str, Any]:
    """The deep insert: header, one item, its account assignment and its text. Raises Permanent."""
    wanted = facts.requisition
    day = time_of(attempt.event).astimezone(ZoneInfo(settings.time_zone)).date()
    unit = codes.unit(wanted.unit_of_measure, settings)
    item: Fields = {
        "PurchaseRequisitionItemText": title(wanted.description or wanted.material_id),
        "Material": codes.material(wanted.material_id, settings),
        "MaterialGroup": settings.default_material_group,
        "RequestedQuantity": wanted.quantity,
        "BaseUnit": unit,
        "Plant": settings.plant,
        "StorageLocation": _location(wanted.storage_location, settings),
        "CompanyCode": settings.company_code,
        "PurchasingGroup": settings.purchasing_group,
        "PurchasingOrganization": settings.purchasing_organization,
        "RequisitionerName": codes.user(wanted.requested_by),
        "DeliveryDate": day + timedelta(days=DELIVERY_DAYS),
        "PurReqnItemCurrency": wanted.currency,
    }
    if wanted.unit_price is not None:
        item["PurchaseRequisitionPrice"], item["PurReqnPriceQuantity"] = codes.price(wanted.unit_price)
    header: Fields = {
        "PurchaseRequisitionType": settings.requisition_type,
        "PurReqnDescription": title(f"{facts.ticket_id} {wanted.description}"),
    }
    account: Fields = {}
    if wanted.cost_center_id is not None:
        item["AccountAssignmentCategory"] = "K"
        account = {
            "CostCenter": codes.cost_center(wanted.cost_center_id, settings),
            "ControllingArea": settings.controlling_area,
            "GLAccount": settings.gl_account,
            "Quantity": wanted.quantity,
        }
    kinds = ("A_PurchaseRequisitionItem", "A_PurchaseRequisitionHeader", "A_PurReqnAcctAssgmt")
    targets = zip((entity_set_of(REQUISITIONS, kind) for kind in kinds), (item, header, account), strict=True)
    overridden(attempt.document, *targets)
    if account:
        item["to_PurchaseReqnAcctAssgmt"] = [_given(account)]
    if words := _words(facts):
        text = {"DocumentText": TEXT_ID, "TechnicalObjectType": TEXT_OBJECT, "Language": settings.language}
        item["to_PurchaseReqnItemText"] = [{**text, "NoteDescription": words}]
    return {**_given(header), "to_PurchaseReqnItem": [_given(item)]}


def _words(facts: RequisitionApproved) -> str:
    wanted = facts.requisition
    lines = [wanted.justification]
    if len(wanted.description) > 40:
        lines.insert(0, wanted.description)
    if facts.comment:
        lines.append(f"{facts.decided_by or 'Approved'}: {facts.comment}")
    return "\n".join(cut(line, TEXT_CHARACTERS_MAX // 3) for line in lines if line.strip())


def _location(name: str, settings: ErpSettings) -> str | None:
    return codes.storage_location(name, settings) if name else None


def _given(fields: Fields) -> Fields:
    """The fields that have a value; SAP derives the others."""
    return {name: value for name, value in fields.items() if value is not None}
