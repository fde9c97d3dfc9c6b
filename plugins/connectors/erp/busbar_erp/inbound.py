"""What SAP tells by a signed webhook: a notification or a requisition as it is now, and who changed it."""

import re
from typing import Any

import msgspec

from busbar.sdk import Endpoint, InboundMessage, Permanent, RemoteChange
from busbar_erp.changes import Sighting, changes_of, notification_seen, requisition_seen
from busbar_erp.settings import ErpSettings

_USER = re.compile(r"[\w.@+-]{1,40}")


class NotificationData(msgspec.Struct, frozen=True, kw_only=True):
    """A maintenance notification as it is now."""

    MaintenanceNotification: str
    MaintNotifExtReferenceNumber: str
    NotifProcessingPhase: str
    changed_by: str = ""


class RequisitionData(msgspec.Struct, frozen=True, kw_only=True):
    """An item of a purchase requisition as it is now."""

    PurchaseRequisition: str
    PurchaseRequisitionItem: str
    PurReqnExternalReference: str
    PurReqnReleaseStatus: str = ""
    ProcessingStatus: str = ""
    PurchasingDocument: str = ""
    PurchasingDocumentItem: str = ""
    IsDeleted: str = ""
    changed_by: str = ""


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    data: msgspec.Raw


async def receive(endpoint: Endpoint, message: InboundMessage) -> tuple[RemoteChange, ...]:
    """Read a verified message; empty for what is not about a document of ours, says nothing new, or is our own change.

    Raises Permanent for a body that is no such message.
    """
    try:
        seen = _sighting(msgspec.json.decode(message.body, type=_Message))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Permanent(f"The body is no message about a document of SAP: {error}.") from error
    settings: ErpSettings = endpoint.settings
    if seen is None or not seen.reference or seen.by.casefold() == settings.username.casefold():
        return ()
    return await changes_of(endpoint, [seen], message_id=message.headers.get("webhook-id", ""))


def _sighting(told: _Message) -> Sighting | None:
    if told.type == "notification.changed":
        notification = msgspec.json.decode(told.data, type=NotificationData)
        return notification_seen(_fields(notification), by=_name(notification.changed_by))
    if told.type == "requisition.changed":
        requisition = msgspec.json.decode(told.data, type=RequisitionData)
        return requisition_seen(_fields(requisition), by=_name(requisition.changed_by))
    return None


def _fields(data: msgspec.Struct) -> dict[str, Any]:
    return msgspec.structs.asdict(data)


def _name(text: str) -> str:
    """A user name from outside, as far as it is one."""
    found = _USER.fullmatch(text)
    return text if found else ""
