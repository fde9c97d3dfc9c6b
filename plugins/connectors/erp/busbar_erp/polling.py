"""Asks SAP what changed: requisitions and notifications since the time that the last poll came to."""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from busbar.sdk import Endpoint, Permanent, Polled, RemoteChange
from busbar_erp.answers import Entity
from busbar_erp.calls import condition
from busbar_erp.changes import changes_of, notification_seen, requisition_seen
from busbar_erp.client import ODataClient
from busbar_erp.connection import client_of
from busbar_erp.failures import translated
from busbar_erp.model import NOTIFICATIONS, REQUISITIONS, entity_set_of
from busbar_erp.values import moment_of

PAGE: Final = 200
PAGES_MAX: Final = 2
"""Of each kind in one poll; the next one goes on. The core takes 1,000 changes at a time."""
FIRST_LOOK: Final = timedelta(days=1)
OVERLAP: Final = timedelta(minutes=1)
"""A change gets its time when it begins in SAP, and can be read when it ends: so each poll looks back a little."""

CHANGED = "LastChangeDateTime"
_ASKED = {
    REQUISITIONS: (
        "A_PurchaseRequisitionItem",
        (
            "PurchaseRequisition",
            "PurchaseRequisitionItem",
            "PurReqnExternalReference",
            "PurReqnReleaseStatus",
            "ProcessingStatus",
            "PurchasingDocument",
            "PurchasingDocumentItem",
            "IsDeleted",
            CHANGED,
        ),
    ),
    NOTIFICATIONS: (
        "MaintenanceNotification",
        ("MaintenanceNotification", "MaintNotifExtReferenceNumber", "NotifProcessingPhase", CHANGED),
    ),
}
"""The entity set of each service that is asked, and the fields that are read."""


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """From when on each kind of document is asked for next."""

    requisitions: datetime
    notifications: datetime


async def poll(endpoint: Endpoint, cursor: str | None) -> Polled:
    """What people changed in SAP since the last poll. Raises Permanent, Retryable, RateLimited or AuthExpired."""
    start = _start(cursor, endpoint.clock())
    with translated(endpoint, changing=False):
        client = client_of(endpoint)
        items, requisitions = await _changed(client, REQUISITIONS, start.requisitions)
        entities, notifications = await _changed(client, NOTIFICATIONS, start.notifications)
    seen = [requisition_seen(item) for item in items] + [notification_seen(entity) for entity in entities]
    changes: tuple[RemoteChange, ...] = await changes_of(endpoint, seen)
    following = Cursor(requisitions=requisitions, notifications=notifications)
    return Polled(changes=changes, cursor=msgspec.json.encode(following).decode())


async def _changed(client: ODataClient, service: str, since: datetime) -> tuple[list[Entity], datetime]:
    """The documents changed since then, oldest first, and from when on to ask the next time."""
    name, select = _ASKED[service]
    found: list[Entity] = []
    for page in range(PAGES_MAX):
        listed = await client.find(
            service,
            name,
            conditions=[condition(service, name, CHANGED, "ge", since)],
            select=select,
            order_by=",".join((CHANGED, *entity_set_of(service, name).keys)),
            top=PAGE,
            skip=page * PAGE,
        )
        found += listed
        if len(listed) < PAGE:
            newest = _newest(found, since)
            return found, max(since, newest - OVERLAP)
    newest = _newest(found, since)
    if newest == since:
        raise Permanent(f"More than {len(found)} documents of {name} changed at {since}; Busbar cannot page past them.")
    return found, newest


def _newest(found: list[Entity], since: datetime) -> datetime:
    times = [moment_of(entity.get(CHANGED)) for entity in found]
    return max((time for time in times if time is not None), default=since)


def _start(cursor: str | None, now: datetime) -> Cursor:
    if cursor is None:
        begin = now.astimezone(UTC) - FIRST_LOOK
        return Cursor(requisitions=begin, notifications=begin)
    try:
        return msgspec.json.decode(cursor, type=Cursor)
    except msgspec.DecodeError as error:
        raise Permanent(f"The cursor of the last poll cannot be read: {error}.") from error
