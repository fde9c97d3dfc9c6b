"""The ticket: the one work item of the platform."""

from piccolo.columns import BigSerial, Boolean, Date, Integer, Text, Timestamptz
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from busbar.db import DB


class Ticket(Table, tablename="ticket", schema="core", db=DB):
    """A work item of any module (SPEC R1)."""

    ticket_id = Text(primary_key=True, default=None, null=False)
    module = Text(default=None, null=False)
    ticket_type = Text(default=None, null=False)
    title = Text(default=None, null=False)
    description = Text(default="", null=False)
    priority = Text(default=None, null=False)
    status = Text(default=None, null=False)
    on_hold = Boolean(default=False, null=False)
    hold_since = Timestamptz(default=None, null=True)
    held_s = Integer(default=0, null=False)
    site_id = Text(default=None, null=False)
    assignee = Text(default=None, null=True)
    created_by = Text(default=None, null=False)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)
    closed_at = Timestamptz(default=None, null=True)
    sla_deadline = Timestamptz(default=None, null=False)
    object_kind = Text(default=None, null=True)
    object_id = Text(default=None, null=True)
    correlation_id = Text(default=None, null=False)
    version = Integer(default=1, null=False)

    ticket_type_known = Check("ticket_type in ('Incident', 'Maintenance', 'Procurement', 'Finance_Approval')")
    ticket_priority_known = Check("priority in ('P1', 'P2', 'P3', 'P4')")
    ticket_status_known = Check("status in ('Open', 'Assigned', 'In_Progress', 'Closed', 'Cancelled')")


class TicketCounter(Table, tablename="ticket_counter", schema="core", db=DB):
    """The last ticket number that a module gave on a UTC day."""

    id = BigSerial(primary_key=True)
    module = Text(default=None, null=False)
    day = Date(default=None, null=False)
    last = Integer(default=None, null=False)

    ticket_counter_unique = Unique([module, day])
