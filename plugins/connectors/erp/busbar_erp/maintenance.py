"""Maintenance tickets as notifications, and their orders as maintenance orders."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from busbar.sdk import Attempt, Endpoint, Receipt
from busbar_erp import codes, documents, orders, wording
from busbar_erp.answers import Entity
from busbar_erp.documents import Document, Kind
from busbar_erp.facts import (
    Incident,
    IncidentChanged,
    MaintenanceFacts,
    Order,
    OrderCompleted,
    TicketChanged,
    TicketOpened,
    time_of,
)
from busbar_erp.model import NOTIFICATIONS, ORDERS, entity_set_of
from busbar_erp.notifications import COMPLETED, IN_PROCESS, PHASES, Notification
from busbar_erp.orders import MaintenanceOrder
from busbar_erp.overrides import Fields, overridden
from busbar_erp.settings import ErpSettings

LONG_TEXT = "MaintNotifLongTextForEdit"
EQUIPMENT, FUNCTIONAL_LOCATION = "EAMS_EQUI", "EAMS_FL"
"""What TechObjIsEquipOrFuncnlLoc says a technical object is (general knowledge)."""


async def tell(endpoint: Endpoint, attempt: Attempt, facts: MaintenanceFacts) -> Receipt:
    """Tell SAP of one event; one notification per ticket, and one order where the ticket has one.

    An event that finds no notification opens it, whatever it tells of, so a dead-lettered creation holds up nothing.

    Raises Permanent, Retryable, RateLimited or AuthExpired.
    """
    case = _Case(endpoint, attempt, facts)
    await case.begin()
    if case.is_old():
        return case.receipt("has been told of this already.", duplicate=True)
    opened = not await case.notification.look()
    if opened:
        await case.notification.open(case.opening)
    match facts:
        case TicketOpened():
            await case.tell_opening(facts, opened=opened)
        case TicketChanged():
            await case.tell_change(facts)
        case IncidentChanged():
            await case.tell_incident(facts)
        case OrderCompleted():
            await case.tell_completion(facts)
    await documents.learn(case.notification.document, told_version=case.version, told_at=case.told_at)
    written = case.notification.written
    outcome = "was opened." if opened else "was changed." if written else "has been told of this already."
    return case.receipt(outcome, duplicate=not written)


class _Case:
    """One attempt: the notification, the order, and what the event says of them."""

    def __init__(self, endpoint: Endpoint, attempt: Attempt, facts: MaintenanceFacts) -> None:
        self._endpoint = endpoint
        self._attempt = attempt
        self._facts = facts
        self._settings: ErpSettings = endpoint.settings
        self._at = time_of(attempt.event)
        self.version = facts.version if isinstance(facts, TicketChanged) else 0
        # A change of the ticket carries a version; the others are told apart by the time of their event.
        self.told_at: datetime | None = None if self.version else self._at
        if isinstance(facts, TicketOpened):
            self.version = 1
        self.opening, self._order_fields = _fields(facts, self._at, self._settings)
        targets = [(entity_set_of(NOTIFICATIONS, "MaintenanceNotification"), self.opening)]
        if self._order_fields:
            targets.append((entity_set_of(ORDERS, "MaintenanceOrder"), self._order_fields))
        overridden(attempt.document, *targets)

    async def begin(self) -> None:
        """Reserve the documents that the event is about."""
        self.notification = Notification(self._endpoint, self._attempt, await self._reserve("notification"))
        self._order: MaintenanceOrder | None = None
        known = await documents.find(self._endpoint.endpoint_id, "order", self._facts.ticket_id)
        if known is None and self._order_fields:
            known = await self._reserve("order")
        if known is not None:
            self._order = MaintenanceOrder(self.notification, known)
        self._order_number = None if known is None else known.remote_id

    def is_old(self) -> bool:
        """Whether SAP has been told of this event, or of a newer one of its kind."""
        told = self.notification.document
        if told.remote_id is None:
            return False
        if self.told_at is None:
            return self.version <= told.told_version
        return told.told_at is not None and self.told_at <= told.told_at

    async def tell_opening(self, facts: TicketOpened, *, opened: bool) -> None:
        """What a new ticket tells; an older notification gets what it lacks, and keeps a newer title and priority."""
        if not opened:
            fixed = {"NotificationType", LONG_TEXT}
            if self.notification.document.told_version > 1:
                fixed |= {"NotificationText", "MaintPriority"}
            kept = {name: value for name, value in self.opening.items() if name not in fixed and value is not None}
            head = str(self.opening.get(LONG_TEXT) or "")
            await self.notification.change(lambda entity: {**kept, LONG_TEXT: wording.with_head(_text(entity), head)})
        if self._order is not None:
            await self._order.make(self._order_fields)

    async def tell_change(self, facts: TicketChanged) -> None:
        """Status, title, priority and comment of the ticket."""
        notification, target = self.notification, PHASES.get(facts.status)
        has_order = self._order is not None and await self._order.look()
        if notification.phase == COMPLETED and target == IN_PROCESS:
            # An order that is completed walks its ticket on, through a status that it has passed already.
            target = IN_PROCESS if facts.action == "reopen" else None
            if target is not None and self._order is not None and has_order:
                await self._order.reopen()
                await notification.look()
            if target is not None:
                await notification.step(target, at=self._at)
        wanted = {"NotificationText": wording.title(facts.title), "MaintPriority": codes.priority(facts.priority)}
        mark = f"v{facts.version} {wording.minute(self._at)}"
        await self._change(wanted, mark=mark, note=wording.note_of_change(facts))
        if self._order is not None and has_order and facts.status == "Cancelled":
            await self._order.call_off()
        if facts.status == "Closed" and (self._order is not None or _is_order_ticket(facts)):
            # PM_ORDER_COMPLETED completes order and notification, with a last line that a completed one cannot take.
            return
        if target is not None:
            await notification.step(target, at=self._at)

    async def tell_incident(self, facts: IncidentChanged) -> None:
        """What became known of an incident."""
        wanted: Fields = {}
        if "severity" in facts.changed:
            wanted["MaintPriority"] = codes.priority(facts.incident.severity)
        if facts.incident.restored_at is not None:
            wanted |= _local("MalfunctionEnd", facts.incident.restored_at, self._settings)
        mark = self._at.isoformat(sep=" ", timespec="milliseconds")
        await self._change(wanted, mark=mark, note=wording.note_of_incident(facts))

    async def tell_completion(self, facts: OrderCompleted) -> None:
        """The work is done: a line in the text, then the order and its notification are completed."""
        assert self._order is not None, "the event has an order, so there is one"
        await self._order.make(self._order_fields)
        by = f" by {facts.completed_by}" if facts.completed_by else ""
        mark = f"done {wording.minute(facts.completed_at)}"
        await self._change({}, mark=mark, note=" ".join(f"Completed{by}. {facts.notes}".split()))
        await self._order.complete(facts.completed_at)

    def receipt(self, outcome: str, *, duplicate: bool) -> Receipt:
        """What the operator reads."""
        number = str(self.notification.entity.get("MaintenanceNotification") or self.notification.document.remote_id)
        words = [f"Notification {number} {outcome}"]
        if self._order is not None and self._order.found:
            self._order_number = self._order.number
        if self._order_number is not None:
            words.append(f"Order {self._order_number}.")
        return Receipt(
            remote_id=self._order_number or number,
            detail=" ".join((*words, *self.notification.remarks)),
            duplicate=duplicate,
        )

    async def _change(self, wanted: Fields, *, mark: str, note: str) -> None:
        def fields(entity: Entity) -> Fields:
            text = wording.with_line(_text(entity), mark, note)
            if text is None:
                return wanted
            return {**wanted, LONG_TEXT: text}

        await self.notification.change(fields)
        if wording.with_line(_text(self.notification.entity), mark, note) is None:
            self.notification.remarks.append("Its long text is full, so the note was left out.")

    async def _reserve(self, kind: Kind) -> Document:
        return await documents.reserve(
            self._endpoint.endpoint_id,
            kind,
            self._facts.ticket_id,
            ticket_id=self._facts.ticket_id,
            prefix=self._settings.reference_prefix,
            now=self._endpoint.clock(),
        )


def _fields(facts: MaintenanceFacts, at: datetime, settings: ErpSettings) -> tuple[Fields, Fields]:
    """The fields of a new notification, and those of its order, if the event tells of one. Raises Permanent."""
    incident: Incident | None = getattr(facts, "incident", None)
    order: Order | None = getattr(facts, "order", None)
    words, priority = "", None
    match facts:
        case TicketOpened() | TicketChanged():
            heading, priority = facts.title, codes.priority(facts.priority)
            words = facts.description if isinstance(facts, TicketOpened) else ""
        case IncidentChanged():
            heading, words = wording.title_of_incident(facts), facts.description
            priority = codes.priority(facts.incident.severity)
        case OrderCompleted():
            heading = wording.title_of_order(facts.order)
    is_order = order is not None or (isinstance(facts, TicketChanged) and _is_order_ticket(facts))
    notification: dict[str, Any] = {
        "NotificationType": settings.order_notification_type if is_order else settings.incident_notification_type,
        "NotificationText": wording.title(heading),
        LONG_TEXT: wording.long_text(facts.ticket_id, heading, words, incident, order),
        "MaintPriority": priority,
        "MaintenancePlanningPlant": settings.planning_plant or settings.plant,
        "MaintenancePlant": settings.plant,
        "MainWorkCenter": settings.work_center,
        "MainWorkCenterPlant": settings.plant if settings.work_center else None,
    }
    if isinstance(facts, TicketOpened):
        notification["ReportedByUser"] = codes.user(facts.created_by)
    if incident is not None:
        notification |= _local("MalfunctionStart", incident.started_at, settings)
        notification["MaintenanceObjectIsDown"] = incident.fault_type == "outage"
    asset = incident or order
    if asset is not None and settings.asset_as != "text":
        notification["TechnicalObject"] = codes.asset(asset.asset_id, 40)
        kind = EQUIPMENT if settings.asset_as == "equipment" else FUNCTIONAL_LOCATION
        notification["TechObjIsEquipOrFuncnlLoc"] = kind
    if order is None:
        return notification, {}
    return notification, orders.fields_of(order, heading, priority, settings)


def _is_order_ticket(facts: TicketChanged) -> bool:
    return facts.ticket_type == "Maintenance"


def _local(name: str, at: datetime, settings: ErpSettings) -> Fields:
    local = at.astimezone(ZoneInfo(settings.time_zone))
    return {f"{name}Date": local.date(), f"{name}Time": local.time().replace(microsecond=0)}


def _text(entity: Entity) -> str:
    return str(entity.get(LONG_TEXT) or "")
