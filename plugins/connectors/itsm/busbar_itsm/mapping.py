"""Busbar's words in ServiceNow's: from an event to the fields of an incident, and from a remote state to a status."""

from collections.abc import Mapping
from typing import Any

import msgspec

from busbar.sdk import Permanent
from busbar_itsm import wording
from busbar_itsm.facts import (
    Facts,
    IncidentChanged,
    OrderCompleted,
    SlaAlerted,
    TicketChanged,
    TicketOpened,
    facts_of,
    time_of,
)
from busbar_itsm.marker import Marker, moment
from busbar_itsm.overrides import overridden
from busbar_itsm.settings import ItsmSettings

CORRELATION_ID_CHARACTERS_MAX = 100

IMPACT_AND_URGENCY = {"P1": ("1", "1"), "P2": ("2", "1"), "P3": ("2", "2"), "P4": ("3", "2")}
"""ServiceNow works out the priority itself: by its default look-up rules these give 1, 2, 3 and 4."""

NEW, IN_PROGRESS, ON_HOLD, RESOLVED, CLOSED, CANCELED = "1", "2", "3", "6", "7", "8"

STATES = {"Open": NEW, "Assigned": IN_PROGRESS, "In_Progress": IN_PROGRESS, "Cancelled": CANCELED}
"""Assigned is In Progress, which ServiceNow's state model describes as "assigned and being investigated"; a note says
to whom. Closed is RESOLVED or CLOSED, by the settings; a ticket on hold is ON_HOLD, whatever its status."""

STATUSES = {IN_PROGRESS: "In_Progress", RESOLVED: "Closed", CLOSED: "Closed", CANCELED: "Cancelled"}
"""The way back. NEW and ON_HOLD are no status that a ticket can be moved to: they come back as comments."""


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """What one event says of one ticket, as fields of the remote record."""

    ticket_id: str
    marker: Marker
    """How new `ticket` (version) and `facts` (facts_at) are."""
    ticket: dict[str, str]
    facts: dict[str, str]
    opening: dict[str, str]
    """What only a new record needs, beside the other two."""

    def news(self, told: Marker) -> dict[str, str]:
        """The fields that are newer than what a record has been told; empty when there are none."""
        fields = dict(self.ticket) if self.marker.version > told.version else {}
        return fields | (self.facts if self.marker.facts_at > told.facts_at else {})

    def is_news(self, told: Marker) -> bool:
        """Whether the event tells anything that the record has not been told."""
        return self.marker.version > told.version or self.marker.facts_at > told.facts_at

    def record(self, correlation_id: str) -> dict[str, str]:
        """Every field of a new record; the last two are those by which Busbar finds it and knows what it has told."""
        kept = {"correlation_id": self.ticket_id, "correlation_display": self.marker.display(correlation_id)}
        return {**self.opening, **self.ticket, **self.facts, **kept}


def telling_of(event: Mapping[str, Any], document: Mapping[str, Any] | None, settings: ItsmSettings) -> Telling:
    """Translate a CloudEvent; the fields of `document`, which the route's mapping made, replace ours one by one.

    Raises Permanent for an event or document that cannot be told.
    """
    facts = facts_of(event)
    if not 1 <= len(facts.ticket_id) <= CORRELATION_ID_CHARACTERS_MAX:
        raise Permanent(f"The ticket id has {len(facts.ticket_id)} characters; ServiceNow takes 1 to 100.")
    version, at = _age(facts, event)
    ticket, known = _ticket_fields(facts, settings), _fact_fields(facts, settings)
    opening = {"impact": "3", "urgency": "3", "state": NEW, **_opening_fields(facts, settings)}
    if document is not None:
        ticket, known, opening = overridden(document, ticket=ticket, facts=known, opening=opening)
    return Telling(
        ticket_id=facts.ticket_id,
        marker=Marker(version=version, facts_at=at),
        ticket=ticket,
        facts=known,
        opening=opening,
    )


def _age(facts: Facts, event: Mapping[str, Any]) -> tuple[int, str]:
    if isinstance(facts, TicketChanged):
        return facts.version, ""
    return (1 if isinstance(facts, TicketOpened) else 0), moment(time_of(event))


def _ticket_fields(facts: Facts, settings: ItsmSettings) -> dict[str, str]:
    if isinstance(facts, TicketOpened):
        return {
            "short_description": wording.one_line(facts.title),
            **_priority(facts.priority),
            **_state(facts.status, settings, note=None),
        }
    if isinstance(facts, TicketChanged):
        fields = {
            "short_description": wording.one_line(facts.title),
            **_priority(facts.priority),
            **_state("On_Hold" if facts.on_hold else facts.status, settings, note=facts.comment),
        }
        note = wording.note_of_change(facts)
        return fields | ({settings.note_field: note} if note else {})
    return {}


def _fact_fields(facts: Facts, settings: ItsmSettings) -> dict[str, str]:
    if isinstance(facts, TicketOpened):
        return {"description": wording.description(facts.description, facts.incident, facts.order)}
    if isinstance(facts, IncidentChanged):
        fields = {"description": wording.description(facts.description, facts.incident, None)}
        note = wording.note_of_incident(facts)
        return fields | ({settings.note_field: note} if note else {})
    if isinstance(facts, OrderCompleted):
        return {settings.note_field: wording.note_of_completion(facts)}
    if isinstance(facts, SlaAlerted):
        return {settings.note_field: wording.note_of_alert(facts)}
    return {}


def _opening_fields(facts: Facts, settings: ItsmSettings) -> dict[str, str]:
    """What a record needs that is opened by an event which tells of the ticket only in part."""
    fields = {"caller_id": settings.caller_id or "", "assignment_group": settings.assignment_group or ""}
    if isinstance(facts, IncidentChanged):
        fields |= {"short_description": wording.title_of_incident(facts), **_priority(facts.incident.severity)}
    if isinstance(facts, SlaAlerted):
        fields |= {"short_description": wording.one_line(facts.title), **_priority(facts.priority)}
    if isinstance(facts, OrderCompleted):
        fields |= {
            "short_description": wording.title_of_order(facts.order),
            "description": wording.description("", None, facts.order),
        }
    return {name: value for name, value in fields.items() if value}


def _priority(priority: str) -> dict[str, str]:
    try:
        impact, urgency = IMPACT_AND_URGENCY[priority]
    except KeyError:
        raise Permanent(f"The priority {priority!r} is none of {', '.join(IMPACT_AND_URGENCY)}.") from None
    return {"impact": impact, "urgency": urgency}


def _state(status: str, settings: ItsmSettings, *, note: str | None) -> dict[str, str]:
    if status == "On_Hold":
        return {"state": ON_HOLD, "hold_reason": settings.hold_reason}
    if status == "Closed":
        # Resolution code and notes are mandatory for both states; notes cannot be empty.
        return {
            "state": RESOLVED if settings.closed_as == "resolved" else CLOSED,
            "close_code": settings.close_code,
            "close_notes": wording.text(note or "Closed in Busbar."),
        }
    try:
        return {"state": STATES[status]}
    except KeyError:
        raise Permanent(f"The ticket status {status!r} has no state in ServiceNow.") from None
