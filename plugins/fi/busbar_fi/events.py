"""The events of finance."""

from datetime import date
from decimal import Decimal
from typing import Literal

import msgspec

from busbar.sdk import EventType, TicketCreated, TicketUpdated

CostType = Literal["CAPEX", "OPEX"]
OverBudget = Literal["off", "warn", "stop"]
EntryKind = Literal["cost", "reversal", "return"]
CommitmentStatus = Literal["open", "reduced", "closed"]
ApprovalStatus = Literal["pending", "approved", "rejected", "withdrawn"]
Decision = Literal["approved", "rejected", "withdrawn"]


class ApprovalFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an approval request's events say of it."""

    approval_id: str
    amount: Decimal
    currency: str
    justification: str
    cost_center_id: str
    approval_hierarchy: tuple[str, ...]
    """Who decides, in order: user names, or `role:<name>` for anybody with the role."""
    level: int
    """The level that is to decide, or that decided last; from 1."""
    status: ApprovalStatus
    requested_by: str
    subject_kind: Literal["requisition"] | None = None
    subject_id: str | None = None
    subject_ticket_id: str | None = None


class FiTicketCreated(TicketCreated, frozen=True, kw_only=True):
    """A ticket of finance was opened, for an approval request."""

    approval: ApprovalFacts | None = None


class ApprovalRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody, or a requisition, asks for an amount."""

    ticket_id: str
    approval: ApprovalFacts


class ApprovalChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The requester changed the amount or the justification, before anybody decided."""

    ticket_id: str
    approval: ApprovalFacts


class ApprovalAdvanced(msgspec.Struct, frozen=True, kw_only=True):
    """A level approved, and the next one is to decide."""

    ticket_id: str
    approval: ApprovalFacts
    decided_by: str
    on_behalf_of: str | None
    comment: str | None


class ApprovalReminded(msgspec.Struct, frozen=True, kw_only=True):
    """A request waits for longer than the site wants it to."""

    ticket_id: str
    approval: ApprovalFacts
    waiting_for: str
    """The entry of the hierarchy that is to decide."""
    waiting_h: int
    """Whole hours since the level's turn began."""


class ApprovalCompleted(msgspec.Struct, frozen=True, kw_only=True):
    """A request was approved by all its levels, rejected by one, or withdrawn."""

    ticket_id: str
    approval: ApprovalFacts
    decision: Decision
    decided_by: str
    on_behalf_of: str | None = None
    comment: str | None = None


class CommitmentChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Money was set aside for a requisition or an order, or is free again."""

    commitment_id: str
    cost_center_id: str
    fiscal_year: int
    source_kind: Literal["requisition", "order"]
    source_id: str
    source_ticket_id: str
    amount: Decimal
    """What is set aside now."""
    change: Decimal
    """By how much that differs from before; negative when money became free."""
    currency: str
    status: CommitmentStatus


class CostPosted(msgspec.Struct, frozen=True, kw_only=True):
    """A cost entry was posted; a reversal or a return has a negative amount."""

    entry_id: str
    kind: EntryKind
    ticket_id: str | None
    cost_center_id: str
    fiscal_year: int
    posting_date: date
    cost_type: CostType
    amount: Decimal
    currency: str
    source_event_type: str | None
    source_event_id: str | None
    asset_id: str | None
    description: str
    reverses: str | None = None


class BudgetFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How a budget stands, with everything below the cost center in it."""

    cost_center_id: str
    name: str
    fiscal_year: int
    over_budget: OverBudget
    budget_amount: Decimal
    actual_amount: Decimal
    committed_amount: Decimal
    currency: str


class BudgetWarning(msgspec.Struct, frozen=True, kw_only=True):
    """Costs and commitments went past a budget whose policy is to warn; told once each time that they do."""

    budget: BudgetFacts
    booked_on: str
    """The cost center on which the booking was made that went past it; the same, or one below."""
    change: Decimal


class BudgetExceeded(msgspec.Struct, frozen=True, kw_only=True):
    """A budget whose policy is to stop has no room: a requisition was refused, or a cost that had arisen went past."""

    budget: BudgetFacts
    booked_on: str
    change: Decimal
    refused: bool
    """Whether the booking was refused; a cost that has arisen already is posted all the same."""
    source_ticket_id: str | None = None


EVENT_TYPES = (
    EventType(name="FI_TICKET_CREATED", module="fi", data=FiTicketCreated),
    EventType(name="FI_TICKET_UPDATED", module="fi", data=TicketUpdated),
    EventType(name="FI_APPROVAL_REQUESTED", module="fi", data=ApprovalRequested),
    EventType(name="FI_APPROVAL_CHANGED", module="fi", data=ApprovalChanged),
    EventType(name="FI_APPROVAL_ADVANCED", module="fi", data=ApprovalAdvanced),
    EventType(name="FI_APPROVAL_REMINDED", module="fi", data=ApprovalReminded),
    EventType(name="FI_APPROVAL_COMPLETED", module="fi", data=ApprovalCompleted),
    EventType(name="FI_COMMITMENT_CHANGED", module="fi", data=CommitmentChanged),
    EventType(name="FI_COST_POSTED", module="fi", data=CostPosted),
    EventType(name="FI_BUDGET_WARNING", module="fi", data=BudgetWarning),
    EventType(name="FI_BUDGET_EXCEEDED", module="fi", data=BudgetExceeded),
)
