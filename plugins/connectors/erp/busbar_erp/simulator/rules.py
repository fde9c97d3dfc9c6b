"""What the simulated applications do by themselves: number ranges, mandatory fields, the steps of a document's life.

Texts and codes of errors are modelled on SAP's; which field is mandatory is configuration in a real system.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from busbar_erp.model import (
    COST_CENTERS,
    MATERIAL_DOCUMENTS,
    NOTIFICATIONS,
    ORDERS,
    REQUISITIONS,
    EntitySet,
    entity_set_of,
)
from busbar_erp.simulator import movements
from busbar_erp.simulator.messages import ODataError, not_found
from busbar_erp.simulator.store import Row, Store

OUTSTANDING, IN_PROCESS, COMPLETED = "1", "3", "4"
CREATED, RELEASED, TECHNICALLY_COMPLETE, DELETION_FLAG = "CRTD", "REL", "TECO", "DLFL"

Children = Mapping[str, list[tuple[Row, "Children"]]]
"""Below each navigation the new records, each with those below it."""


class Applications:
    """Creates records and steps them on. Everything a rule needs is in the store, so a replay comes to the same."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._create: dict[str, Callable[[Row, Children, datetime], Row]] = {
            "MaintenanceNotification": self._new_notification,
            "MaintenanceOrder": self._new_order,
            "A_PurchaseRequisitionHeader": self._new_requisition,
            "A_MaterialDocumentHeader": self._new_document,
        }
        self._functions: dict[str, Callable[[Mapping[str, Any], datetime], Row | None]] = {
            "SetMaintNotifToInProcess": self._start_notification,
            "CompleteMaintNotification": self._complete_notification,
            "ReleaseMaintenanceOrder": self._release_order,
            "SetMaintOrdToTechCompleted": self._complete_order,
            "ResetMaintOrdStsTechCompleted": self._reopen_order,
            "SetMaintOrdStsToMrkdForDeltn": self._delete_order,
            "Cancel": self._cancel_document,
        }

    def can_create(self, entity_set: EntitySet) -> bool:
        """Whether new records may be posted to the set itself."""
        return entity_set.name in self._create

    def create(self, entity_set: EntitySet, row: Row, children: Children, *, now: datetime) -> Row:
        """Create a record with those below it. Raises ODataError; the caller takes back what was begun."""
        return self._create[entity_set.name](row, children, now)

    def change(self, entity_set: EntitySet, row: Row, fields: Row, *, now: datetime) -> Row:
        """Change fields of a record. Raises ODataError."""
        if row.get("NotifProcessingPhase") == COMPLETED:
            raise ODataError(400, "IM/102", f"Notification {row['MaintenanceNotification']} is already completed.")
        if fields.get("IsDeleted") == "X" and row.get("PurchasingDocument"):
            raise ODataError(400, "06/115", f"Requisition item is already ordered with {row['PurchasingDocument']}.")
        _require(entity_set, {**row, **fields}, *_MANDATORY.get(entity_set.name, ()))
        return self.store.put(entity_set, {**row, **fields}, now=now)

    def call(self, function: str, arguments: Mapping[str, Any], *, now: datetime) -> Row | None:
        """Carry out a function. Raises ODataError."""
        return self._functions[function](arguments, now)

    def put_below(self, entity_set: EntitySet, parent: Row, children: Children, *, now: datetime) -> None:
        """Store what a deep insert has below a record, with the record's key and numbers for what has none."""
        from_parent = {name: parent[name] for name in entity_set.keys}
        for navigation, listed in children.items():
            child = entity_set_of(entity_set.service, entity_set.navigations[navigation])
            number = [name for name in child.keys if name not in from_parent]
            for n, (row, below) in enumerate(listed, start=1):
                step, width = _NUMBERS.get(child.name, (1, child.fields[number[0]].length or 1))
                numbered = {name: row.get(name) or str(n * step).zfill(width) for name in number[:1]}
                _require(child, row, *_MANDATORY.get(child.name, ()))
                stored = self.store.put(child, {**row, **from_parent, **numbered}, now=now)
                self.put_below(child, stored, below, now=now)

    def _new_notification(self, row: Row, children: Children, now: datetime) -> Row:
        kind = entity_set_of(NOTIFICATIONS, "MaintenanceNotification")
        _require(kind, row, *_MANDATORY[kind.name], "NotificationType")
        if row["MaintPriority"] not in ("", "1", "2", "3", "4"):
            raise ODataError(400, "IM/118", f"Priority {row['MaintPriority']} is not defined.")
        number = self.store.next_number("notification", first=10000001)
        stored = {**row, "MaintenanceNotification": number, "NotifProcessingPhase": OUTSTANDING}
        stored = self.store.put(kind, stored, now=now)
        self.put_below(kind, stored, children, now=now)
        return stored

    def _start_notification(self, arguments: Mapping[str, Any], now: datetime) -> Row:
        return self._step(arguments, IN_PROCESS, now)

    def _complete_notification(self, arguments: Mapping[str, Any], now: datetime) -> Row:
        return self._step(arguments, COMPLETED, now)

    def _step(self, arguments: Mapping[str, Any], phase: str, now: datetime) -> Row:
        kind = entity_set_of(NOTIFICATIONS, "MaintenanceNotification")
        row = self._existing(kind, arguments)
        if row["NotifProcessingPhase"] == phase:
            raise ODataError(400, "IM/107", f"Notification {row['MaintenanceNotification']} has that status already.")
        return self.store.put(kind, {**row, "NotifProcessingPhase": phase}, now=now)

    def _new_order(self, row: Row, children: Children, now: datetime) -> Row:
        kind = entity_set_of(ORDERS, "MaintenanceOrder")
        _require(kind, row, *_MANDATORY[kind.name], "MaintenanceOrderType", "MaintenancePlanningPlant")
        number = row["MaintenanceOrder"] or self.store.next_number("order", first=4000001)
        company = f"{row['MaintenancePlanningPlant']}"
        stored = {**row, "MaintenanceOrder": number, "SystemStatusText": CREATED, "CompanyCode": company}
        stored = self.store.put(kind, stored, now=now)
        self.put_below(kind, stored, children, now=now)
        if row["MaintenanceNotification"]:
            self._assign(row["MaintenanceNotification"], number, now)
        return stored

    def _assign(self, notification: str, order: str, now: datetime) -> None:
        """An order that is made for a notification puts it in process."""
        kind = entity_set_of(NOTIFICATIONS, "MaintenanceNotification")
        row = self._existing(kind, {"MaintenanceNotification": notification})
        if row["MaintenanceOrder"]:
            raise ODataError(400, "IW/415", f"Notification {notification} is assigned to {row['MaintenanceOrder']}.")
        self.store.put(kind, {**row, "MaintenanceOrder": order, "NotifProcessingPhase": IN_PROCESS}, now=now)

    def _release_order(self, arguments: Mapping[str, Any], now: datetime) -> None:
        self._order_to(arguments, RELEASED, now, only_from=(CREATED,))

    def _complete_order(self, arguments: Mapping[str, Any], now: datetime) -> None:
        row = self._order_to(arguments, TECHNICALLY_COMPLETE, now, only_from=(CREATED, RELEASED))
        kind = entity_set_of(NOTIFICATIONS, "MaintenanceNotification")
        assigned = self.store.get(kind, {"MaintenanceNotification": row["MaintenanceNotification"]})
        if arguments.get("AssignedMaintNotifIsToBeClosed") and assigned is not None:
            self.store.put(kind, {**assigned, "NotifProcessingPhase": COMPLETED}, now=now)

    def _reopen_order(self, arguments: Mapping[str, Any], now: datetime) -> None:
        row = self._order_to(arguments, RELEASED, now, only_from=(TECHNICALLY_COMPLETE,))
        kind = entity_set_of(NOTIFICATIONS, "MaintenanceNotification")
        assigned = self.store.get(kind, {"MaintenanceNotification": row["MaintenanceNotification"]})
        if arguments.get("AssgdMaintNotifIsToBePutInProc") and assigned is not None:
            self.store.put(kind, {**assigned, "NotifProcessingPhase": IN_PROCESS}, now=now)

    def _delete_order(self, arguments: Mapping[str, Any], now: datetime) -> None:
        self._order_to(arguments, DELETION_FLAG, now, only_from=(CREATED, RELEASED, TECHNICALLY_COMPLETE))

    def _order_to(self, arguments: Mapping[str, Any], status: str, now: datetime, *, only_from: tuple[str, ...]) -> Row:
        kind = entity_set_of(ORDERS, "MaintenanceOrder")
        row = self._existing(kind, arguments)
        if row["SystemStatusText"] not in only_from:
            raise ODataError(400, "IW/079", f"Status {row['SystemStatusText']} of the order does not allow this.")
        return self.store.put(kind, {**row, "SystemStatusText": status}, now=now)

    def _new_requisition(self, row: Row, children: Children, now: datetime) -> Row:
        kind = entity_set_of(REQUISITIONS, "A_PurchaseRequisitionHeader")
        _require(kind, row, "PurchaseRequisitionType")
        items = children.get("to_PurchaseReqnItem", [])
        if not items:
            raise ODataError(400, "ME/083", "Enter at least one item.")
        for item, below in items:
            _check_item(item, below)
        validation_only = row["PurReqnDoOnlyValidation"]
        number = "#" if validation_only else self.store.next_number("requisition", first=10000001)
        stored = {**row, "PurchaseRequisition": number}
        if validation_only:
            return stored
        status = {"PurReqnReleaseStatus": "02", "ProcessingStatus": "N"}
        numbered = {"to_PurchaseReqnItem": [({**item, **status}, below) for item, below in items]}
        stored = self.store.put(kind, stored, now=now)
        self.put_below(kind, stored, numbered, now=now)
        return stored

    def _new_document(self, row: Row, children: Children, now: datetime) -> Row:
        kind = entity_set_of(MATERIAL_DOCUMENTS, "A_MaterialDocumentHeader")
        _require(kind, row, "PostingDate", "GoodsMovementCode")
        items = children.get("to_MaterialDocumentItem", [])
        if not items:
            raise ODataError(400, "M7/001", "Check table: the document has no items.")
        for item, _ in items:
            movements.check(self.store, row, item)
            self._check_account(item)
        stored = movements.put_document(self, row, items, now=now)
        for item, _ in items:
            movements.move(self.store, item, now=now)
        return stored

    def _cancel_document(self, arguments: Mapping[str, Any], now: datetime) -> Row:
        kind = entity_set_of(MATERIAL_DOCUMENTS, "A_MaterialDocumentHeader")
        return movements.cancel(self, self._existing(kind, arguments), arguments.get("PostingDate") or now, now=now)

    def _check_account(self, item: Row) -> None:
        """What an issue is charged to must be there, and open."""
        kind = entity_set_of(ORDERS, "MaintenanceOrder")
        if order := item.get("ManufacturingOrder"):
            known = self.store.get(kind, {"MaintenanceOrder": order})
            if known is None or known["SystemStatusText"] != RELEASED:
                raise ODataError(400, "M7/051", f"Order {order} is not there, or its status does not allow this.")
        for row in self.store.rows(entity_set_of(COST_CENTERS, "A_CostCenter")):
            if row["CostCenter"] == item.get("CostCenter") and row["IsBlkdForPrimaryCostsPosting"]:
                raise ODataError(400, "KI/101", f"Cost center {row['CostCenter']} is blocked against direct postings.")

    def _existing(self, kind: EntitySet, arguments: Mapping[str, Any]) -> Row:
        row = self.store.get(kind, arguments)
        if row is None:
            raise not_found(f"segment '{kind.name}'")
        return row


_MANDATORY = {
    "MaintenanceNotification": ("NotificationText",),
    "MaintenanceOrder": ("MaintenanceOrderDesc",),
    "A_PurchaseRequisitionItem": ("RequestedQuantity", "Plant", "PurchasingGroup", "BaseUnit"),
    "MaintenanceOrderOperation": ("OperationDescription",),
}
_NUMBERS = {
    "A_PurchaseRequisitionItem": (10, 5),
    "A_PurReqnAcctAssgmt": (1, 2),
    "MaintenanceOrderOperation": (10, 4),
    "MaintOrderOpComponent": (10, 4),
}


def _check_item(item: Row, below: Children) -> None:
    kind = entity_set_of(REQUISITIONS, "A_PurchaseRequisitionItem")
    _require(kind, item, *_MANDATORY[kind.name])
    if not item["Material"] and not (item["MaterialGroup"] and item["PurchaseRequisitionItemText"]):
        raise ODataError(400, "ME/062", "Enter a material, or a text and a material group.")
    assigned = below.get("to_PurchaseReqnAcctAssgmt", [])
    if item["AccountAssignmentCategory"] == "K" and not any(row.get("CostCenter") for row, _ in assigned):
        raise ODataError(
            400, "ME/064", "Enter a cost center.", details=[("ME/064", "Enter a cost center.", "CostCenter")]
        )


def _require(entity_set: EntitySet, row: Row, *names: str) -> None:
    missing = [name for name in names if not row.get(name)]
    if missing:
        raise ODataError(
            400,
            "00/055",
            "Fill out all required entry fields.",
            details=[("00/055", f"{entity_set.name}: required.", name) for name in missing],
        )
