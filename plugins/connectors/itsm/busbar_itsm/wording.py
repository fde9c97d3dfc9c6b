"""The texts that people at the service desk read: titles, descriptions and notes, cut to what ServiceNow stores."""

from datetime import UTC, datetime

from busbar_itsm.facts import Incident, IncidentChanged, Order, OrderCompleted, SlaAlerted, TicketChanged

SHORT_DESCRIPTION_CHARACTERS_MAX = 160
TEXT_CHARACTERS_MAX = 4000
"""The default length of description, notes and comments."""

_ACTIONS = {"hold": "Put on hold", "resume": "Resumed", "cancel": "Cancelled", "reopen": "Reopened"}


def one_line(title: str) -> str:
    """A short description."""
    return _cut(" ".join(title.split()), SHORT_DESCRIPTION_CHARACTERS_MAX)


def text(words: str) -> str:
    """A long text."""
    return _cut(words.strip(), TEXT_CHARACTERS_MAX)


def description(words: str, incident: Incident | None, order: Order | None) -> str:
    """What was reported, and below it what Busbar knows of the asset, the fault or the order."""
    lines = _incident_lines(incident) if incident else _order_lines(order) if order else []
    facts = "\n".join(lines)
    # The facts are short and must not be what is cut off.
    words = _cut(words.strip(), TEXT_CHARACTERS_MAX - len(facts) - 2)
    return _cut("\n\n".join(part for part in (words, facts) if part), TEXT_CHARACTERS_MAX)


def note_of_change(change: TicketChanged) -> str:
    """The note for a change of the ticket; "" when the fields say it all."""
    parts = []
    if change.assignee and (change.action == "assign" or (change.action == "move" and change.status == "Assigned")):
        parts.append(f"Assigned to {change.assignee} in Busbar.")
    if change.action in _ACTIONS:
        parts.append(f"{_ACTIONS[change.action]} in Busbar.")
    # The comment on closing stands in the resolution notes.
    if change.comment and change.status != "Closed":
        parts.append(change.comment)
    return text("\n".join(parts))


def note_of_incident(change: IncidentChanged) -> str:
    """The note for what became known of an incident; "" when only the description changed."""
    incident = change.incident
    lines = []
    if "restoration" in change.changed:
        restored = f"Supply restored to {incident.customers_restored} of {incident.customers_affected} customers"
        lines.append(f"{restored}, all by {_minute(incident.restored_at)}." if incident.restored_at else f"{restored}.")
    if "customers_affected" in change.changed:
        lines.append(f"Customers affected: {incident.customers_affected}.")
    return "\n".join(lines)


def note_of_alert(alert: SlaAlerted) -> str:
    """The note when the time that was promised for a ticket is nearly or quite used up."""
    if alert.reached_at < alert.deadline:
        return f"SLA warning: the time for the {alert.target} is used up at {_minute(alert.deadline)}."
    return f"SLA breached: the time for the {alert.target} was used up at {_minute(alert.deadline)}."


def note_of_completion(done: OrderCompleted) -> str:
    """The note for a completed maintenance order."""
    by = f" by {done.completed_by}" if done.completed_by else ""
    return text(f"The {done.order.order_type} maintenance was completed{by}.\n{done.notes}")


def title_of_incident(change: IncidentChanged) -> str:
    """A title for an incident whose own is not known."""
    first_line = change.description.strip().split("\n", 1)[0]
    return one_line(f"{change.incident.fault_type.capitalize()} at {change.incident.asset_id}: {first_line}")


def title_of_order(order: Order) -> str:
    """A title for a maintenance order whose own is not known."""
    return one_line(f"{order.order_type.capitalize()} maintenance of {order.asset_name or order.asset_id}")


def _incident_lines(incident: Incident) -> list[str]:
    lines = [
        f"Asset: {_asset(incident.asset_name, incident.asset_id)} {incident.asset_type}".rstrip(),
        f"Fault: {incident.fault_type}, since {_minute(incident.started_at)}",
    ]
    if incident.customers_affected:
        lines.append(f"Customers affected: {incident.customers_affected}, restored: {incident.customers_restored}")
    if incident.restored_at:
        lines.append(f"Restored: {_minute(incident.restored_at)}")
    if incident.latitude is not None and incident.longitude is not None:
        lines.append(f"Position: {incident.latitude:.6f}, {incident.longitude:.6f}")
    return lines


def _order_lines(order: Order) -> list[str]:
    lines = [f"Asset: {_asset(order.asset_name, order.asset_id)}", f"Order: {order.order_type}"]
    return lines + ([f"Scheduled: {order.scheduled_date}"] if order.scheduled_date else [])


def _asset(name: str, asset_id: str) -> str:
    return f"{name} ({asset_id})" if name else asset_id


def _minute(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _cut(words: str, characters_max: int) -> str:
    return words if len(words) <= characters_max else words[: characters_max - 1] + "…"
