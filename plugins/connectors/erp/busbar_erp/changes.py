"""What people did in SAP, as changes of our tickets: told once, by poll or webhook, without what we did ourselves."""

from typing import Any

import msgspec

from busbar.sdk import Endpoint, RemoteChange
from busbar_erp import documents
from busbar_erp.documents import Document
from busbar_erp.notifications import DELETED, OUTSTANDING, POSTPONED, STATUSES
from busbar_erp.requisitions import state_of

RELEASED, REFUSED = "05", "08"
"""Processing states of a requisition: release completed, refused (general knowledge of SAP's domain)."""

_PHASES = {OUTSTANDING: "set back to outstanding", POSTPONED: "postponed", DELETED: "flagged for deletion"}


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A document as it was seen in SAP."""

    reference: str
    """Our short id, which it carries."""
    number: str
    state: str
    entity: dict[str, Any]
    by: str = ""
    """Who changed it, where that was told."""


def notification_seen(entity: dict[str, Any], *, by: str = "") -> Sighting:
    """A maintenance notification."""
    return Sighting(
        reference=str(entity.get("MaintNotifExtReferenceNumber") or ""),
        number=str(entity.get("MaintenanceNotification") or ""),
        state=str(entity.get("NotifProcessingPhase") or ""),
        entity=entity,
        by=by,
    )


def requisition_seen(item: dict[str, Any], *, by: str = "") -> Sighting:
    """An item of a purchase requisition."""
    return Sighting(
        reference=str(item.get("PurReqnExternalReference") or ""),
        number=str(item.get("PurchaseRequisition") or ""),
        state=state_of(item),
        entity=item,
        by=by,
    )


async def changes_of(endpoint: Endpoint, seen: list[Sighting], *, message_id: str = "") -> tuple[RemoteChange, ...]:
    """One change for each document that somebody else brought to a state which Busbar has not taken yet.

    `message_id` is that of the webhook; a poll's is made of the document and its state, as the core makes it.
    """
    known = await documents.by_short_ids(endpoint.endpoint_id, [one.reference for one in seen if one.reference])
    found = []
    for one in seen:
        document = known.get(one.reference)
        if document is None or document.ticket_id is None:
            continue
        # First of all: a document may have gone to another state and back since its last report.
        document = await documents.settled(document)
        if document.knows(one.state):
            continue
        await _learn_order(document, one)
        status, comment = _meaning(document, one)
        if status is None and comment is None:
            continue
        # With its time, for a document may come to the same state again.
        marker = " ".join(filter(None, (document.kind, one.state, str(one.entity.get("LastChangeDateTime") or ""))))
        await documents.report(document, one.state, message_id=message_id or f"poll:{one.number}:{marker}")
        found.append(
            RemoteChange(
                remote_id=one.number, ticket_id=document.ticket_id, status=status, comment=comment, marker=marker
            )
        )
    return tuple(found)


async def _learn_order(document: Document, seen: Sighting) -> None:
    number = str(seen.entity.get("PurchasingDocument") or "")
    if document.kind == "requisition" and number and number != document.purchase_order:
        await documents.learn_purchase_order(document, number, str(seen.entity.get("PurchasingDocumentItem") or ""))


def _meaning(document: Document, seen: Sighting) -> tuple[str | None, str | None]:
    """The ticket status that a state means, and the words for what no status says."""
    if document.kind == "notification":
        status, phase = STATUSES.get(seen.state), _PHASES.get(seen.state)
        if status is not None or phase is None:
            return status, None
        return None, _said(seen, f"Notification {seen.number} was {phase}.")
    words = _requisition_words(document.state, seen)
    return None, _said(seen, " ".join(words)) if words else None


def _requisition_words(before: str, seen: Sighting) -> list[str]:
    released, _, ordered, deleted = (before or "///").split("/")
    item, number = seen.entity, seen.number
    words = []
    release = str(item.get("PurReqnReleaseStatus") or "")
    if release == RELEASED != released:
        words.append(f"Purchase requisition {number} was released.")
    if release == REFUSED != released:
        words.append(f"The release of purchase requisition {number} was refused.")
    order = str(item.get("PurchasingDocument") or "")
    if order and order != ordered:
        words.append(f"Purchase requisition {number} was ordered with purchase order {order}.")
    if item.get("IsDeleted") and not deleted:
        words.append(f"Purchase requisition {number} was flagged for deletion.")
    return words


def _said(seen: Sighting, words: str) -> str:
    return f"{seen.by or 'Somebody'} in SAP: {words}"
