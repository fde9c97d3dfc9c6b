"""The texts that people read in SAP: 40 characters for a title, the whole story in the long text."""

from datetime import UTC, datetime

from busbar_erp.facts import Incident, IncidentChanged, Order, TicketChanged
from busbar_erp.values import cut

TITLE_CHARACTERS_MAX = 40
LONG_TEXT_CHARACTERS_MAX = 1333

_ACTIONS = {"hold": "Put on hold", "resume": "Resumed", "cancel": "Cancelled", "reopen": "Reopened"}


def title(text: str) -> str:
    """A short text; what does not fit stands in the long text."""
    return cut(text, TITLE_CHARACTERS_MAX)


def long_text(ticket_id: str, heading: str, words: str, incident: Incident | None, order: Order | None) -> str:
    """The ticket's number and whole title, what was reported, and what Busbar knows of the asset."""
    facts = "\n".join(_incident_lines(incident) if incident else _order_lines(order) if order else [])
    head = f"{ticket_id}\n{' '.join(heading.split())}"
    # Number and facts are short and must not be what is cut off.
    head = _within(head, LONG_TEXT_CHARACTERS_MAX // 2)
    words = _within(words.strip(), LONG_TEXT_CHARACTERS_MAX - len(head) - len(facts) - 4)
    return _within("\n\n".join(part for part in (head, words, facts) if part), LONG_TEXT_CHARACTERS_MAX)


def note_of_change(change: TicketChanged) -> str:
    """The note for a change of the ticket; "" when the fields say it all."""
    parts = []
    if change.assignee and (change.action == "assign" or (change.action == "move" and change.status == "Assigned")):
        parts.append(f"Assigned to {change.assignee}.")
    if change.action in _ACTIONS:
        parts.append(f"{_ACTIONS[change.action]}.")
    if change.comment:
        parts.append(change.comment)
    return " ".join(" ".join(parts).split())


def note_of_incident(change: IncidentChanged) -> str:
    """The note for what became known of an incident."""
    incident = change.incident
    parts = []
    if "restoration" in change.changed:
        restored = f"Supply restored to {incident.customers_restored} of {incident.customers_affected} customers"
        parts.append(f"{restored}, all by {_minute(incident.restored_at)}." if incident.restored_at else f"{restored}.")
    elif "customers_affected" in change.changed:
        parts.append(f"Customers affected: {incident.customers_affected}.")
    if "description" in change.changed:
        parts.append(change.description)
    return " ".join(" ".join(parts).split())


def with_line(text: str, mark: str, note: str) -> str | None:
    """A long text with a line for this note; as it is where it has the line already, None where no room is left.

    What stands there is never cut: it may be the work of somebody in SAP.
    """
    start = f"[{mark}] "
    if not note or start in text:
        return text
    room = LONG_TEXT_CHARACTERS_MAX - len(text) - 1
    line = _within(start + note, room)
    return f"{text}\n{line}" if len(line) > len(start) + 1 else None


def with_head(text: str, head: str) -> str:
    """A long text whose description is `head`, with the notes that were added to it since."""
    notes = [line for line in text.split("\n") if line.startswith("[")]
    kept = "\n".join([head, *notes])
    return kept if len(kept) <= LONG_TEXT_CHARACTERS_MAX else text


def title_of_incident(change: IncidentChanged) -> str:
    """A title for an incident whose own is not known."""
    first_line = change.description.strip().split("\n", 1)[0]
    return f"{change.incident.fault_type.capitalize()} at {change.incident.asset_id}: {first_line}"


def title_of_order(order: Order) -> str:
    """A title for a maintenance order whose own is not known."""
    return f"{order.order_type.capitalize()} maintenance of {order.asset_name or order.asset_id}"


def minute(time: datetime) -> str:
    """A time for people."""
    return _minute(time)


def _incident_lines(incident: Incident) -> list[str]:
    lines = [
        f"Asset: {_asset(incident.asset_name, incident.asset_id)}",
        f"Fault: {incident.fault_type}, since {_minute(incident.started_at)}",
    ]
    if incident.customers_affected:
        lines.append(f"Customers affected: {incident.customers_affected}, restored: {incident.customers_restored}")
    return lines


def _order_lines(order: Order) -> list[str]:
    lines = [f"Asset: {_asset(order.asset_name, order.asset_id)}", f"Order: {order.order_type}"]
    return lines + ([f"Scheduled: {order.scheduled_date}"] if order.scheduled_date else [])


def _asset(name: str, asset_id: str) -> str:
    return f"{name} ({asset_id})" if name else asset_id


def _minute(time: datetime | None) -> str:
    return "" if time is None else time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _within(words: str, characters_max: int) -> str:
    if len(words) <= characters_max:
        return words
    return words[: characters_max - 1].rstrip() + "…" if characters_max > 0 else ""
