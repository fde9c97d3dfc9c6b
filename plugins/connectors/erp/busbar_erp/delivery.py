"""Delivery of one event: what becomes of it in SAP (class B: look before create)."""

from busbar.sdk import Attempt, Endpoint, Receipt
from busbar_erp import maintenance, movements, requisitions
from busbar_erp.facts import RequisitionApproved, RequisitionCancelled, StockChanged, facts_of


async def deliver(endpoint: Endpoint, attempt: Attempt) -> Receipt:
    """Tell SAP of one event; one document for each thing, however often it is told.

    The document is looked for at every attempt, the first too: one short request, and then no mistake about which
    attempt is the first can make a second document.

    Raises Permanent, Retryable, RateLimited, AuthExpired, or NothingToTell for what means nothing to SAP.
    """
    match facts_of(attempt.event):
        case RequisitionApproved() as approved:
            return await requisitions.create(endpoint, attempt, approved)
        case RequisitionCancelled() as cancelled:
            return await requisitions.withdraw(endpoint, attempt, cancelled)
        case StockChanged() as stock:
            return await movements.post(endpoint, attempt, stock)
        case told:
            return await maintenance.tell(endpoint, attempt, told)
