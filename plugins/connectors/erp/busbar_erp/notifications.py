"""Maintenance notifications: found by their external reference, opened once, changed by version, stepped on."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from busbar.sdk import Attempt, Endpoint, Permanent, Retryable
from busbar_erp import documents
from busbar_erp.answers import Entity, Refused, Stale, etag_of
from busbar_erp.client import ODataClient
from busbar_erp.connection import client_of
from busbar_erp.documents import Document
from busbar_erp.failures import translated
from busbar_erp.model import NOTIFICATIONS, entity_set_of
from busbar_erp.overrides import Fields
from busbar_erp.settings import ErpSettings
from busbar_erp.values import DoesNotFit, Value, encoded

SET = "MaintenanceNotification"
STALE_TRIES: Final = 3

OUTSTANDING, POSTPONED, IN_PROCESS, COMPLETED, DELETED = "1", "2", "3", "4", "5"
"""Processing phases (general knowledge of SAP's domain of phases)."""
STATUSES = {IN_PROCESS: "In_Progress", COMPLETED: "Closed"}
"""The ticket status that a phase means; the others mean none that a ticket can be moved to."""
PHASES = {"In_Progress": IN_PROCESS, "Closed": COMPLETED, "Cancelled": COMPLETED}
"""The phase that a ticket status means; Open and Assigned leave the notification as it is."""

_FUNCTIONS = {IN_PROCESS: "SetMaintNotifToInProcess", COMPLETED: "CompleteMaintNotification"}


class Notification:
    """The notification of one ticket, during one attempt; every call carries the attempt's correlation id."""

    def __init__(self, endpoint: Endpoint, attempt: Attempt, document: Document) -> None:
        self.endpoint = endpoint
        self.settings: ErpSettings = endpoint.settings
        self.client: ODataClient = client_of(endpoint)
        self.headers = {"X-Correlation-ID": attempt.correlation_id}
        self.document = document
        self.entity: Entity = {}
        self.written = False
        """Whether this attempt has changed anything in SAP."""
        self.remarks: list[str] = []

    @property
    def number(self) -> str:
        return str(self.entity[SET])

    @property
    def phase(self) -> str:
        return str(self.entity.get("NotifProcessingPhase") or "")

    async def look(self) -> bool:
        """Find it, by number or else by the short id; False if SAP does not have it."""
        with translated(self.endpoint, changing=False):
            found = None
            if self.document.remote_id is not None:
                found = await self._read(self.document.remote_id)
            if found is None:
                found = await self._find()
        if found is None:
            return False
        self.entity = found
        await documents.learn(self.document, remote_id=self.number)
        return True

    async def open(self, fields: Fields) -> None:
        """Create it."""
        sent = {name: value for name, value in fields.items() if value is not None}
        sent["MaintNotifExtReferenceNumber"] = self.document.short_id
        await documents.learn(self.document, intended_state=OUTSTANDING)
        with translated(self.endpoint, changing=True):
            self.entity = await self.client.create(NOTIFICATIONS, SET, sent, headers=self.headers)
        self.written = True
        await documents.learn(self.document, remote_id=self.number, state=self.phase)

    async def change(self, wanted: Callable[[Entity], Fields]) -> bool:
        """Bring it to the fields that `wanted` makes of it; only what differs is sent, so a repeat sends nothing.

        False, and a remark, if it is completed: SAP lets nobody change it then.
        """
        for _ in range(STALE_TRIES):
            news = _differences(self.entity, wanted(self.entity))
            if not news:
                return True
            if self.phase in (COMPLETED, DELETED):
                self.remarks.append(f"It is completed in SAP, so {', '.join(news)} stayed as they were.")
                return False
            try:
                with translated(self.endpoint, changing=True):
                    await self._update(news)
            except _Changed:
                await self._reread()
                continue
            await self._reread()
            return True
        raise Retryable(f"Somebody keeps changing notification {self.number} in SAP.", after_s=1.0)

    async def step(self, phase: str, *, at: datetime) -> None:
        """Bring it to a phase by SAP's function; nothing happens if it is there."""
        if self.phase == phase:
            await documents.learn(self.document, state=phase)
            return
        # Remembered first: it may be carried out without an answer, and must not come back as somebody's change.
        await documents.learn(self.document, intended_state=phase)
        arguments: dict[str, Value] = {SET: self.number}
        if phase == COMPLETED:
            local = at.astimezone(ZoneInfo(self.settings.time_zone))
            arguments |= {"NotificationReferenceDate": local.date(), "NotificationReferenceTime": local.time()}
        with translated(self.endpoint, changing=True):
            try:
                function = _FUNCTIONS[phase]
                self.entity = await self.client.call(NOTIFICATIONS, function, arguments, headers=self.headers)
            except Refused:
                # Somebody was faster: then there is nothing left to do.
                found = await self._read(self.number)
                if found is None or found.get("NotifProcessingPhase") != phase:
                    raise
                self.entity = found
        self.written = True
        await documents.learn(self.document, state=phase)

    async def _reread(self) -> None:
        with translated(self.endpoint, changing=False):
            found = await self._read(self.number)
        if found is None:
            raise Retryable(f"Notification {self.number} is gone from SAP; the next attempt looks again.")
        self.entity = found

    async def _update(self, fields: Fields) -> None:
        try:
            await self.client.update(
                NOTIFICATIONS, SET, {SET: self.number}, fields, etag=etag_of(self.entity), headers=self.headers
            )
        except Stale as error:
            raise _Changed from error
        self.written = True

    async def _read(self, number: str) -> Entity | None:
        found = await self.client.get(NOTIFICATIONS, SET, {SET: number}, headers=self.headers)
        # A number that we have wrong, such as after a system copy, is another's notification.
        ours = found is not None and found.get("MaintNotifExtReferenceNumber") == self.document.short_id
        return found if ours else None

    async def _find(self) -> Entity | None:
        found = await self.client.find(
            NOTIFICATIONS,
            SET,
            {"MaintNotifExtReferenceNumber": self.document.short_id},
            order_by=SET,
            top=5,
            headers=self.headers,
        )
        if len(found) > 1:
            others = ", ".join(str(one[SET]) for one in found[1:])
            self.remarks.append(f"{len(found)} carry {self.document.short_id}; complete the others: {others}.")
        return found[0] if found else None


class _Changed(Exception):
    """Somebody else changed the notification after it was read."""


def _differences(entity: Entity, wanted: dict[str, Any]) -> Fields:
    fields = entity_set_of(NOTIFICATIONS, SET).fields
    try:
        return {name: value for name, value in wanted.items() if entity.get(name) != encoded(fields[name], value)}
    except DoesNotFit as error:
        raise Permanent(f"This cannot be sent to SAP: {error}") from error
