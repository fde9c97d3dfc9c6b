"""The texts that the service team reads: subjects, descriptions and comments, cut to what Salesforce stores."""

from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from itertools import accumulate, takewhile

from busbar_crm.facts import Approval, ApprovalTold, BudgetTold, CommitmentChanged, CostPosted, OtherNews, TicketChanged

SUBJECT_CHARACTERS_MAX = 255
DESCRIPTION_CHARACTERS_MAX = 32_000
COMMENT_BYTES_MAX = 4000
"""Of a CaseComment; counted in bytes of UTF-8 after HTML encoding, as Salesforce's help says."""

_ACTIONS = {"hold": "Put on hold", "resume": "Resumed", "cancel": "Cancelled", "reopen": "Reopened"}


def one_line(title: str) -> str:
    """A subject."""
    return _cut(" ".join(title.split()), SUBJECT_CHARACTERS_MAX)


def description(words: str, approval: Approval | None) -> str:
    """What the ticket says, and below it what is to be approved."""
    facts = "\n".join(_approval_lines(approval, said=words) if approval else [])
    # The facts are short and must not be what is cut off.
    words = _cut(words.strip(), DESCRIPTION_CHARACTERS_MAX - len(facts) - 2)
    return _cut("\n\n".join(part for part in (words, facts) if part), DESCRIPTION_CHARACTERS_MAX)


def comment_of_change(change: TicketChanged) -> str:
    """The comment for a change of the ticket; "" when the fields say it all."""
    parts = []
    if change.assignee and (change.action == "assign" or (change.action == "move" and change.status == "Assigned")):
        parts.append(f"Assigned to {change.assignee} in Busbar.")
    if change.action in _ACTIONS:
        parts.append(f"{_ACTIONS[change.action]} in Busbar.")
    if change.comment:
        parts.append(change.comment)
    return "\n".join(parts)


def comment_of_approval(event_type: str, told: ApprovalTold) -> str:
    """The comment for a step of an approval."""
    by = f" by {told.decided_by}" if told.decided_by else ""
    by += f" for {told.on_behalf_of}" if told.on_behalf_of else ""
    amount = f" of {money(told.approval.amount, told.approval.currency)}" if told.approval.amount is not None else ""
    level = "the next level" if told.approval.level is None else f"level {told.approval.level}"
    waiting = f" for {told.waiting_for}" if told.waiting_for else ""
    sentence = {
        "FI_APPROVAL_REQUESTED": f"Approval{amount} was requested.",
        "FI_APPROVAL_CHANGED": f"The request for approval was changed: it is now for one{amount}.",
        "FI_APPROVAL_ADVANCED": f"One level of the approval{amount} was decided{by}; {level} is asked.",
        "FI_APPROVAL_REMINDED": f"The approval{amount} still waits{waiting}; a reminder was sent.",
        "FI_APPROVAL_COMPLETED": f"The approval{amount} was {told.decision or 'completed'}{by}.",
    }[event_type]
    return "\n".join(part for part in (sentence, told.comment) if part)


def comment_of_cost(cost: CostPosted) -> str:
    """The comment for a posted cost."""
    kind = (cost.kind or "cost").capitalize()
    kind = f"{cost.cost_type} {kind.lower()}" if cost.cost_type else kind
    asset = f", asset {cost.asset_id}" if cost.asset_id else ""
    sentence = f"{kind} of {money(cost.amount, cost.currency)} was posted to cost center {cost.cost_center_id}{asset}."
    return "\n".join(part for part in (sentence, (cost.description or "").strip()) if part)


def comment_of_commitment(commitment: CommitmentChanged) -> str:
    """The comment for a commitment that was opened, reduced or closed."""
    source = f" for {commitment.source_kind} {commitment.source_id or ''}".rstrip() if commitment.source_kind else ""
    ticket = f" (ticket {commitment.source_ticket_id})" if commitment.source_ticket_id else ""
    status = commitment.status or "changed"
    return f"The commitment{source}{ticket} is {status}: {money(commitment.amount, commitment.currency)}."


def comment_of_budget(event_type: str, told: BudgetTold) -> str:
    """The comment for a budget that was passed."""
    budget = told.budget
    year = f" {budget.fiscal_year}" if budget.fiscal_year is not None else ""
    passed = "is used up" if event_type == "FI_BUDGET_EXCEEDED" else "was passed"
    lines = [
        f"The budget{year} of cost center {budget.cost_center_id} {passed}.",
        f"Budget: {money(budget.budget_amount, budget.currency)}",
        f"Actual: {money(budget.actual_amount, budget.currency)}",
        f"Committed: {money(budget.committed_amount, budget.currency)}",
    ]
    if told.change is not None:
        outcome = " was refused" if told.refused else ""
        lines.append(f"Booking: {money(told.change, budget.currency)} on {told.booked_on or 'it'}{outcome}")
    return "\n".join(lines)


def comment_of_other(event_type: str, news: OtherNews) -> str:
    """The comment for an event that has no words of its own: its name and its plain values."""
    lines = [f"{name.replace('_', ' ').capitalize()}: {value}" for name, value in news.values.items()]
    return "\n".join([f"{title_of_type(event_type)}.", *lines])


def title_of_type(event_type: str) -> str:
    """`FI_BUDGET_WARNING` as `Budget warning`."""
    return event_type.partition("_")[2].replace("_", " ").capitalize()


def title_of_approval(approval: Approval) -> str:
    """A subject for an approval whose ticket is not known yet."""
    amount = f" of {money(approval.amount, approval.currency)}" if approval.amount is not None else ""
    center = f" for cost center {approval.cost_center_id}" if approval.cost_center_id else ""
    return one_line(f"Approval{amount}{center}")


def with_reference(comment: str, time: datetime, event_id: str) -> str:
    """The comment with a last line by which Busbar finds it again, and people see when it happened."""
    last = f"\n— Busbar, {_minute(time)}, {event_id}"
    return _cut_stored(comment.strip(), COMMENT_BYTES_MAX - _stored_bytes(last)) + last


def money(amount: Decimal | None, currency: str) -> str:
    """`1,234.50 EUR`."""
    return f"{amount:,.2f} {currency}".rstrip()


def _approval_lines(approval: Approval, *, said: str) -> list[str]:
    lines = []
    if approval.amount is not None:
        lines.append(f"Amount: {money(approval.amount, approval.currency)}")
    if approval.cost_center_id:
        lines.append(f"Cost center: {approval.cost_center_id}")
    if approval.justification and approval.justification not in said:
        lines.append(f"Justification: {approval.justification}")
    if approval.approval_hierarchy:
        lines.append(f"To be approved by: {', '.join(approval.approval_hierarchy)}")
    if approval.requested_by:
        lines.append(f"Requested by: {approval.requested_by}")
    if approval.subject_ticket_id:
        lines.append(f"For ticket: {approval.subject_ticket_id}")
    return lines


def _minute(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _cut(words: str, characters_max: int) -> str:
    return words if len(words) <= characters_max else words[: characters_max - 1] + "…"


def _cut_stored(words: str, bytes_max: int) -> str:
    if _stored_bytes(words) <= bytes_max:
        return words
    room = bytes_max - _stored_bytes("…")
    sizes = accumulate(_stored_bytes(letter) for letter in words)
    kept = sum(1 for _ in takewhile(lambda size: size <= room, sizes))
    return words[:kept] + "…"


def _stored_bytes(words: str) -> int:
    return len(escape(words).encode())
