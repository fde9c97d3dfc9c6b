"""Maintenance orders: one for the notification of an order's ticket, by which it is found again."""

from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from busbar_erp import codes, documents
from busbar_erp.answers import Entity
from busbar_erp.documents import Document
from busbar_erp.facts import Order
from busbar_erp.failures import translated
from busbar_erp.model import ORDERS, entity_set_of
from busbar_erp.notifications import COMPLETED, IN_PROCESS, Notification
from busbar_erp.overrides import Fields
from busbar_erp.settings import ErpSettings
from busbar_erp.values import Value
from busbar_erp.wording import title

SET = "MaintenanceOrder"
CREATED = ("CRTD", "EROF")
FINISHED = ("TECO", "TABG", "CLSD", "ABGS", "DLFL", "LOVM")
"""System statuses in English and German: technically complete, closed, flagged for deletion."""


class MaintenanceOrder:
    """The order of one ticket, during one attempt. SAP has no external reference for orders: the notification is it."""

    def __init__(self, notification: Notification, document: Document) -> None:
        self._notification = notification
        self._document = document
        self._entity: Entity = {}

    @property
    def number(self) -> str:
        return str(self._entity[SET])

    @property
    def found(self) -> bool:
        return bool(self._entity)

    async def look(self) -> bool:
        """Find it, by number or else by its notification; False if SAP does not have it."""
        notification, client = self._notification, self._notification.client
        with translated(notification.endpoint, changing=False):
            listed = await client.find(
                ORDERS,
                SET,
                {"MaintenanceNotification": notification.number},
                order_by=SET,
                top=1,
                headers=notification.headers,
            )
        if not listed:
            return False
        self._entity = listed[0]
        await documents.learn(self._document, remote_id=self.number)
        return True

    async def make(self, fields: Fields) -> None:
        """Create it for the notification, which SAP puts in process then, and release it if the settings say so."""
        notification = self._notification
        if not await self.look():
            await documents.learn(notification.document, intended_state=IN_PROCESS)
            sent = {name: value for name, value in fields.items() if value is not None}
            sent["MaintenanceNotification"] = notification.number
            with translated(notification.endpoint, changing=True):
                self._entity = await notification.client.create(ORDERS, SET, sent, headers=notification.headers)
            notification.written = True
            await documents.learn(self._document, remote_id=self.number)
            await documents.learn(notification.document, state=IN_PROCESS)
        if notification.settings.release_orders and self._is(CREATED):
            await self._call("ReleaseMaintenanceOrder", {})

    async def complete(self, at: datetime) -> None:
        """Complete it technically, and its notification with it."""
        if self._is(FINISHED):
            return
        notification = self._notification
        await documents.learn(notification.document, intended_state=COMPLETED)
        arguments: dict[str, Value] = {"MaintOrderReferenceDateTime": at, "AssignedMaintNotifIsToBeClosed": True}
        await self._call("SetMaintOrdToTechCompleted", arguments)
        await documents.learn(notification.document, state=COMPLETED)

    async def reopen(self) -> None:
        """Take the technical completion back, and put the notification in process."""
        if not self._is(("TECO", "TABG")):
            return
        await documents.learn(self._notification.document, intended_state=IN_PROCESS)
        await self._call("ResetMaintOrdStsTechCompleted", {"AssgdMaintNotifIsToBePutInProc": True})
        await documents.learn(self._notification.document, state=IN_PROCESS)

    async def call_off(self) -> None:
        """Flag it for deletion."""
        if not self._is(FINISHED):
            await self._call("SetMaintOrdStsToMrkdForDeltn", {"AssgdMaintNotifIsToBeSetDel": False})

    async def _call(self, function: str, arguments: dict[str, Value]) -> None:
        notification = self._notification
        with translated(notification.endpoint, changing=True):
            await notification.client.call(
                ORDERS, function, {SET: self.number, **arguments}, headers=notification.headers
            )
        notification.written = True

    def _is(self, statuses: tuple[str, ...]) -> bool:
        return any(word in statuses for word in str(self._entity.get("SystemStatusText") or "").split())


def fields_of(order: Order, heading: str, priority: str | None, settings: ErpSettings) -> dict[str, Any]:
    """The deep insert of an order with its one operation. Raises Permanent."""
    plant = settings.plant
    fields: dict[str, Any] = {
        "MaintenanceOrderType": settings.order_type,
        "MaintenanceOrderDesc": title(heading),
        "MaintPriority": priority,
        "MaintenancePlanningPlant": settings.planning_plant or plant,
        "MaintenancePlant": plant,
        "MainWorkCenter": settings.work_center,
        "MainWorkCenterPlant": plant if settings.work_center else None,
    }
    if order.cost_center_id is not None:
        fields["ResponsibleCostCenter"] = codes.cost_center(order.cost_center_id, settings)
    if order.scheduled_date is not None:
        midnight = datetime.combine(order.scheduled_date, time(), ZoneInfo(settings.time_zone))
        fields["MaintOrdBasicStartDateTime"] = midnight.astimezone(UTC)
    if settings.asset_as != "text":
        name = "Equipment" if settings.asset_as == "equipment" else "FunctionalLocation"
        fields[name] = codes.asset(order.asset_id, entity_set_of(ORDERS, SET).fields[name].length or 1)
    operation = {"OperationDescription": title(heading), "Plant": plant}
    fields["to_MaintenanceOrderOperation"] = [operation]
    return fields
