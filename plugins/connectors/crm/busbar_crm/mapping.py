"""Busbar's words in Salesforce's: from an event to the fields of a Case and a comment, and back from its status."""

from collections.abc import Mapping
from typing import Any

import msgspec

from busbar.sdk import Permanent
from busbar_crm import wording
from busbar_crm.facts import (
    ApprovalTold,
    BudgetTold,
    CommitmentChanged,
    CostPosted,
    Facts,
    OtherNews,
    TicketChanged,
    TicketOpened,
    facts_of,
    time_of,
)
from busbar_crm.marker import Marker, moment
from busbar_crm.overrides import Fields, Overridden, overridden
from busbar_crm.settings import CrmSettings

KEY_CHARACTERS_MAX = 255

PRIORITIES = {"P1": "High", "P2": "High", "P3": "Medium", "P4": "Low"}


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """What one event says of one Case."""

    key: str
    """External id: the ticket's id, or one made of the cost center."""
    marker: Marker
    """How new `ticket` (version), `facts` (facts_at) and a mere comment (told_at) are."""
    ticket: Fields
    facts: Fields
    opening: Fields
    """What only a new Case needs, beside the other two."""
    comment: str
    """With the reference by which it is found again; "" for none."""
    reference: str
    """What stands in the comment and in no other."""

    def news(self, told: Marker) -> Fields:
        """The fields that are newer than what a Case has been told; empty when there are none."""
        fields = dict(self.ticket) if self.marker.version > told.version else {}
        return fields | (self.facts if self.marker.facts_at > told.facts_at else {})

    def fields_of_new(self) -> Fields:
        """Every field of a new Case but the marker."""
        return {**self.opening, **self.ticket, **self.facts}

    def comment_fields(self, *, public: bool) -> Fields:
        """The comment as a record, without the Case that it belongs to."""
        return {"CommentBody": self.comment, "IsPublished": public}


def telling_of(event: Mapping[str, Any], document: Mapping[str, Any] | None, settings: CrmSettings) -> Telling:
    """Translate a CloudEvent; the fields of `document`, which the route's mapping made, replace ours one by one.

    Raises Permanent for an event or document that cannot be told.
    """
    facts, time = facts_of(event), time_of(event)
    key = _key(event, facts)
    said = Overridden(
        ticket=_ticket_fields(facts, settings),
        facts=_fact_fields(facts),
        opening={"Status": settings.status_new, **_opening_fields(str(event["type"]), facts, settings)},
        comment=_comment(str(event["type"]), facts),
    )
    if document is not None:
        said = overridden(document, said, reserved=("Id", settings.external_id_field, settings.marker_field))
    reference = str(event.get("id") or f"{moment(time)}")
    return Telling(
        key=key,
        marker=_age(facts, moment(time)),
        ticket=said.ticket,
        facts=said.facts,
        opening=said.opening,
        comment=wording.with_reference(said.comment, time, reference) if said.comment.strip() else "",
        reference=reference,
    )


def statuses_back(settings: CrmSettings) -> dict[str, str]:
    """The status of a ticket that each status of a Case means; what is not in it comes back as a comment.

    New is no status that a ticket can be moved to. Where Closed and Cancelled have one status, it means Closed.
    """
    back = {
        settings.status_working: "In_Progress",
        settings.status_cancelled: "Cancelled",
        settings.status_closed: "Closed",
    }
    back.pop(settings.status_new, None)
    return back


def _key(event: Mapping[str, Any], facts: Facts) -> str:
    """One Case for each ticket, and one for the budget of each cost center, whatever is told of it."""
    ticket_id = None if isinstance(facts, CommitmentChanged | BudgetTold) else facts.ticket_id
    center = None if isinstance(facts, TicketOpened | TicketChanged | ApprovalTold) else facts.cost_center_id
    subject = str(event.get("subject") or "")
    key = ticket_id or (f"BUDGET-{center}" if center else f"FI-{subject}" if subject else "")
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX:
        raise Permanent(f"The external id has {len(key)} characters; Salesforce takes 1 to {KEY_CHARACTERS_MAX}.")
    return key


def _age(facts: Facts, at: str) -> Marker:
    if isinstance(facts, TicketChanged):
        return Marker(version=facts.version)
    return Marker(version=1, facts_at=at) if isinstance(facts, TicketOpened) else Marker(told_at=at)


def _ticket_fields(facts: Facts, settings: CrmSettings) -> Fields:
    if not isinstance(facts, TicketOpened | TicketChanged):
        return {}
    is_held = isinstance(facts, TicketChanged) and facts.on_hold
    return {
        "Subject": wording.one_line(facts.title),
        "Priority": _priority(facts.priority),
        "Status": settings.status_on_hold if is_held else _status(facts.status, settings),
    }


def _fact_fields(facts: Facts) -> Fields:
    if not isinstance(facts, TicketOpened):
        return {}
    return {"Description": wording.description(facts.description, facts.approval)}


def _opening_fields(event_type: str, facts: Facts, settings: CrmSettings) -> Fields:
    """What a Case needs that is opened by an event which tells of it only in part."""
    fields: dict[str, Any] = {"OwnerId": settings.owner_id, "RecordTypeId": settings.record_type_id}
    if isinstance(facts, ApprovalTold):
        fields["Subject"] = wording.title_of_approval(facts.approval)
        fields["Description"] = wording.description("", facts.approval)
    elif isinstance(facts, CostPosted | OtherNews) and facts.ticket_id:
        fields["Subject"] = wording.one_line(f"{wording.title_of_type(event_type)} for ticket {facts.ticket_id}")
    elif isinstance(facts, BudgetTold):
        fields["Subject"] = wording.one_line(f"Budget {facts.cost_center_id} {facts.budget.name}")
    elif isinstance(facts, CostPosted | CommitmentChanged | OtherNews) and facts.cost_center_id:
        fields["Subject"] = wording.one_line(f"Budget {facts.cost_center_id}")
    elif isinstance(facts, OtherNews):
        fields["Subject"] = wording.title_of_type(event_type)
    return {name: value for name, value in fields.items() if value}


def _comment(event_type: str, facts: Facts) -> str:
    if isinstance(facts, TicketChanged):
        return wording.comment_of_change(facts)
    if isinstance(facts, ApprovalTold):
        return wording.comment_of_approval(event_type, facts)
    if isinstance(facts, CostPosted):
        return wording.comment_of_cost(facts)
    if isinstance(facts, CommitmentChanged):
        return wording.comment_of_commitment(facts)
    if isinstance(facts, BudgetTold):
        return wording.comment_of_budget(event_type, facts)
    return wording.comment_of_other(event_type, facts) if isinstance(facts, OtherNews) else ""


def _priority(priority: str) -> str:
    try:
        return PRIORITIES[priority]
    except KeyError:
        raise Permanent(f"The priority {priority!r} is none of {', '.join(PRIORITIES)}.") from None


def _status(status: str, settings: CrmSettings) -> str:
    known = {
        "Open": settings.status_new,
        "Assigned": settings.status_working,
        "In_Progress": settings.status_working,
        "Closed": settings.status_closed,
        "Cancelled": settings.status_cancelled,
    }
    try:
        return known[status]
    except KeyError:
        raise Permanent(f"The ticket status {status!r} has no status in Salesforce.") from None
