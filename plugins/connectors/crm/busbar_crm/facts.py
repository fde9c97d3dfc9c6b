"""What this connector reads of the events it is given: small Structs of its own, tolerant of what it does not use."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from busbar.sdk import Permanent


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """What Finance is asked to approve."""

    amount: Decimal | None = None
    currency: str = ""
    justification: str = ""
    cost_center_id: str | None = None
    approval_hierarchy: tuple[str, ...] = ()
    level: int | None = None
    status: str = ""
    requested_by: str | None = None
    subject_id: str | None = None
    subject_ticket_id: str | None = None


class TicketOpened(msgspec.Struct, frozen=True, kw_only=True):
    """A module's `…_TICKET_CREATED`. A new ticket has version 1."""

    ticket_id: str
    title: str
    priority: str
    status: str
    description: str = ""
    approval: Approval | None = None


class TicketChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A module's `…_TICKET_UPDATED`."""

    ticket_id: str
    title: str
    priority: str
    status: str
    version: int
    on_hold: bool = False
    assignee: str | None = None
    action: str = ""
    comment: str | None = None


class ApprovalTold(msgspec.Struct, frozen=True, kw_only=True):
    """FI_APPROVAL_REQUESTED, _CHANGED, _ADVANCED, _REMINDED and _COMPLETED."""

    ticket_id: str
    approval: Approval
    decision: str | None = None
    decided_by: str | None = None
    on_behalf_of: str | None = None
    waiting_for: str | None = None
    comment: str | None = None


class CostPosted(msgspec.Struct, frozen=True, kw_only=True):
    """FI_COST_POSTED; a reversal or a return has a negative amount."""

    cost_center_id: str
    amount: Decimal
    currency: str = ""
    kind: str | None = None
    ticket_id: str | None = None
    cost_type: str | None = None
    asset_id: str | None = None
    description: str | None = None


class CommitmentChanged(msgspec.Struct, frozen=True, kw_only=True):
    """FI_COMMITMENT_CHANGED."""

    cost_center_id: str
    amount: Decimal
    currency: str = ""
    status: str | None = None
    source_kind: str | None = None
    source_id: str | None = None
    source_ticket_id: str | None = None


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """How a budget stands."""

    cost_center_id: str
    budget_amount: Decimal
    actual_amount: Decimal
    committed_amount: Decimal
    fiscal_year: int | None = None
    name: str = ""
    currency: str = ""


class BudgetTold(msgspec.Struct, frozen=True, kw_only=True):
    """FI_BUDGET_WARNING and FI_BUDGET_EXCEEDED."""

    budget: Budget
    booked_on: str | None = None
    change: Decimal | None = None
    refused: bool = False
    source_ticket_id: str | None = None

    @property
    def cost_center_id(self) -> str:
        return self.budget.cost_center_id


class OtherNews(msgspec.Struct, frozen=True, kw_only=True):
    """Any other event of the module FI: whatever plain values it has are told as they are."""

    values: dict[str, str]
    ticket_id: str | None = None
    cost_center_id: str | None = None


Facts = TicketOpened | TicketChanged | ApprovalTold | CostPosted | CommitmentChanged | BudgetTold | OtherNews

_BY_TYPE: dict[str, type[Facts]] = {
    "FI_APPROVAL_REQUESTED": ApprovalTold,
    "FI_APPROVAL_CHANGED": ApprovalTold,
    "FI_APPROVAL_ADVANCED": ApprovalTold,
    "FI_APPROVAL_REMINDED": ApprovalTold,
    "FI_APPROVAL_COMPLETED": ApprovalTold,
    "FI_COST_POSTED": CostPosted,
    "FI_COMMITMENT_CHANGED": CommitmentChanged,
    "FI_BUDGET_WARNING": BudgetTold,
    "FI_BUDGET_EXCEEDED": BudgetTold,
}
_BY_ENDING: dict[str, type[Facts]] = {"_TICKET_CREATED": TicketOpened, "_TICKET_UPDATED": TicketChanged}

T = TypeVar("T")


def facts_of(event: Mapping[str, Any]) -> Facts:
    """The facts of a CloudEvent. Raises Permanent for an event that cannot be told as a Case."""
    event_type = str(event.get("type", ""))
    kind = _BY_TYPE.get(event_type)
    if kind is None:
        kind = next((kind for ending, kind in _BY_ENDING.items() if event_type.endswith(ending)), None)
    what = f"The data of {event_type}"
    if kind is not None:
        return _convert(event.get("data"), kind, what=what)
    if event_type.startswith("FI_"):
        return _other(_convert(event.get("data"), dict[str, Any], what=what))
    raise Permanent(
        f"The CRM connector cannot tell of {event_type or 'an event without a type'}. It knows FI_*, *_TICKET_CREATED "
        "and *_TICKET_UPDATED; narrow the route's event pattern."
    )


def time_of(event: Mapping[str, Any]) -> datetime:
    """When the event happened. Raises Permanent."""
    return _convert(event.get("time"), datetime, what="The event's time")


def _other(data: dict[str, Any]) -> OtherNews:
    def named(name: str) -> str | None:
        value = data.get(name)
        return value if isinstance(value, str) and value else None

    plain = {name: value for name, value in data.items() if isinstance(value, str | int | float) and value != ""}
    values = {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode() for name, value in plain.items()
    }
    return OtherNews(values=values, ticket_id=named("ticket_id"), cost_center_id=named("cost_center_id"))


def _convert(value: Any, kind: type[T], *, what: str) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Permanent(f"{what} cannot be read: {error}.") from error
