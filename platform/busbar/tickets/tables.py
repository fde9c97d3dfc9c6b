"""The ticket: the one work item of the platform."""

from piccolo.columns import JSONB, UUID, Array, BigSerial, Boolean, Date, Integer, Text, Timestamptz
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
    sla_class = Text(default="standard", null=False)
    weather_event_id = UUID(default=None, null=True)
    promised_priority = Text(default=None, null=True)
    """The priority that was promised for, if it is another one now."""
    promise_before = JSONB(default=None, null=True)
    """Of a ticket in the class `storm`: what it was, or would have been, promised without the weather event."""
    calendar_version = Integer(default=0, null=False)
    """Version of the site's calendar that the promise was made by; 0 is around the clock."""
    response_target_s = Integer(default=None, null=True)
    resolution_target_s = Integer(default=None, null=True)
    warn_percent = Integer(default=80, null=False)
    response_deadline = Timestamptz(default=None, null=True)
    responded_at = Timestamptz(default=None, null=True)
    sla_round = Integer(default=1, null=False)
    """How many promises were made: reopening and another class make a new one, which may be broken anew."""
    alerts_sent = Array(base_column=Text(), default=list, null=False)
    """The alerts of the present round that were told."""
    alert_due_at = Timestamptz(default=None, null=True)
    """When to look at the ticket's clock again: never later than its next alert is due."""

    ticket_type_known = Check("ticket_type in ('Incident', 'Maintenance', 'Procurement', 'Finance_Approval')")
    ticket_priority_known = Check("priority in ('P1', 'P2', 'P3', 'P4')")
    ticket_status_known = Check("status in ('Open', 'Assigned', 'In_Progress', 'Closed', 'Cancelled')")
    ticket_sla_class_known = Check("sla_class in ('standard', 'storm')")


class TicketCounter(Table, tablename="ticket_counter", schema="core", db=DB):
    """The last ticket number that a module gave on a UTC day."""

    id = BigSerial(primary_key=True)
    module = Text(default=None, null=False)
    day = Date(default=None, null=False)
    last = Integer(default=None, null=False)

    ticket_counter_unique = Unique([module, day])


class TicketHold(Table, tablename="ticket_hold", schema="core", db=DB):
    """A time that a ticket spent on hold; the present hold is on the ticket itself."""

    id = BigSerial(primary_key=True)
    ticket_id = Text(default=None, null=False)
    held_from = Timestamptz(default=None, null=False)
    held_until = Timestamptz(default=None, null=False)


class SlaTerms(Table, tablename="sla_terms", schema="core", db=DB):
    """The targets that somebody set: those of one site, or, with the scope `*`, of all."""

    scope = Text(primary_key=True, default=None, null=False)
    targets = JSONB(default=None, null=False)
    """By class and priority: the seconds for response and resolution."""
    warn_percent = Integer(default=None, null=True)
    version = Integer(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)


class WeatherEvent(Table, tablename="weather_event", schema="core", db=DB):
    """A time of bad weather at a site; incidents that are opened in it are in the class `storm`."""

    weather_event_id = UUID(primary_key=True, default=None, null=False)
    site_id = Text(default=None, null=False)
    name = Text(default=None, null=False)
    starts_at = Timestamptz(default=None, null=False)
    ends_at = Timestamptz(default=None, null=True)
    withdrawn_at = Timestamptz(default=None, null=True)
    settled = Boolean(default=False, null=False)
    """Whether every ticket is in the class that follows from the event as it is now."""
    declared_by = Text(default=None, null=False)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)
    version = Integer(default=1, null=False)

    weather_event_ends_later = Check("ends_at > starts_at")
