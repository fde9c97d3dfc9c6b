"""What materials management reads of other modules' events: only the fields it needs, the rest is passed over."""

from decimal import Decimal
from typing import Literal

import msgspec


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """A material that a maintenance order plans to use."""

    material_id: str
    quantity: Decimal


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A maintenance order."""

    components: tuple[Component, ...] = ()


class OrderTold(msgspec.Struct, frozen=True, kw_only=True):
    """PM_TICKET_CREATED and PM_COMPONENTS_CHANGED; `order` is missing where the ticket is an incident's."""

    ticket_id: str
    order: Order | None = None


class WorkTicket(msgspec.Struct, frozen=True, kw_only=True):
    """PM_TICKET_UPDATED."""

    ticket_id: str
    status: str
    object_kind: str | None = None


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """An approval of finance, and what it is about."""

    approval_id: str
    amount: Decimal
    subject_kind: str | None = None
    subject_id: str | None = None


class ApprovalDecided(msgspec.Struct, frozen=True, kw_only=True):
    """FI_APPROVAL_COMPLETED."""

    approval: Approval
    decision: Literal["approved", "rejected", "withdrawn"]
    decided_by: str
    comment: str | None = None
