"""What finance reacts to, and what it does by the clock."""

from busbar.sdk import Job, Subscription
from busbar_fi import costing, decisions, reminders, requisitions

# One for each kind of thing that is followed: what happens to it is handled in order.
SUBSCRIPTIONS = (
    Subscription(
        name="fi.maintenance",
        module="fi",
        pattern=("PM_TICKET_CREATED", "PM_COMPONENTS_CHANGED", "PM_TICKET_UPDATED", "PM_ORDER_COMPLETED"),
        handler=costing.follow_maintenance,
    ),
    # Each movement is a cost of its own, whatever came before it; so a material's need not take turns.
    Subscription(
        name="fi.stock",
        module="fi",
        pattern=("MM_STOCK_CHANGED",),
        handler=costing.post_stock_change,
        ordered=False,
    ),
    Subscription(
        name="fi.requisitions", module="fi", pattern=("MM_REQUISITION_*",), handler=requisitions.follow_requisition
    ),
    Subscription(
        name="fi.approval_follows_ticket",
        module="fi",
        pattern=("FI_TICKET_UPDATED",),
        handler=decisions.follow_ticket,
    ),
)
JOBS = (Job(name="fi.remind_approvers", module="fi", every_s=60, run=reminders.remind),)
