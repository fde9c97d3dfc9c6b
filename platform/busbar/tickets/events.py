"""The events that every ticket tells of, whatever its module."""

from datetime import datetime
from typing import Literal

import msgspec


class TicketCreated(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket was opened. Each module's PM_TICKET_CREATED and so on is a Struct of its own that adds its facts."""

    ticket_id: str
    site: str
    ticket_type: str
    title: str
    description: str
    priority: str
    status: str
    created_at: datetime
    sla_deadline: datetime
    created_by: str


class TicketUpdated(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket changed: its status, hold, assignee, priority or SLA class.

    Each module has it under its own prefix, for example PM_TICKET_UPDATED.
    """

    ticket_id: str
    ticket_type: str
    title: str
    priority: str
    status: str
    previous_status: str
    on_hold: bool
    assignee: str | None
    action: str
    """What was done: `move`, `hold`, `resume`, `cancel`, `reopen`, `assign`, `set_priority`, `note`, `retarget`."""
    comment: str | None
    version: int
    sla_deadline: datetime
    object_kind: str | None
    object_id: str | None


class SlaAlert(msgspec.Struct, frozen=True, kw_only=True):
    """Of the time that was promised for a ticket much is used up (SLA_WARNING), or all (SLA_BREACHED).

    Each module has both under its own prefix, for example PM_SLA_WARNING and PM_SLA_BREACHED, without declaring them.
    Each is told once for a target and a round.
    """

    ticket_id: str
    site: str
    ticket_type: str
    title: str
    priority: str
    status: str
    assignee: str | None
    target: Literal["response", "resolution"]
    """Until somebody takes the ticket, or until the work is done."""
    sla_class: Literal["standard", "storm"]
    round: int
    """1, and one more each time that the ticket is reopened or gets another class: then it is told anew."""
    target_s: int
    """Seconds of working time that were promised."""
    reached_at: datetime
    """When the point of warning, or the deadline, was reached."""
    deadline: datetime
    """When the target is used up."""
    object_kind: str | None
    object_id: str | None
