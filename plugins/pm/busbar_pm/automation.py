"""What plant maintenance does by itself: by events, and by the clock."""

from busbar.sdk import Job, Subscription
from busbar_pm import inbound, incidents, orders, plan_calls

_FOLLOWED = ("PM_TICKET_UPDATED",)

SUBSCRIPTIONS = (
    Subscription(name="pm.incident_follows_ticket", module="pm", pattern=_FOLLOWED, handler=incidents.follow_ticket),
    Subscription(name="pm.order_follows_ticket", module="pm", pattern=_FOLLOWED, handler=orders.follow_ticket),
    Subscription(name="pm.order_takes_issue", module="pm", pattern=("MM_STOCK_CHANGED",), handler=inbound.take_issue),
    Subscription(
        name="pm.plan_follows_incident",
        module="pm",
        pattern=("PM_TICKET_CREATED",),
        handler=plan_calls.follow_incident,
    ),
)
JOBS = (Job(name="pm.maintenance_plans_due", module="pm", every_s=30, run=plan_calls.call_calendar_plans),)
