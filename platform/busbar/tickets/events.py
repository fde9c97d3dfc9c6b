"""The events that every ticket tells of, whatever its module."""

from datetime import datetime

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
    """A ticket changed: its status, hold, assignee or priority.

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
    """What was done: `move`, `hold`, `resume`, `cancel`, `reopen`, `assign`, `set_priority`, `note`."""
    comment: str | None
    version: int
    sla_deadline: datetime
    object_kind: str | None
    object_id: str | None
