"""Reading maintenance plans and their calls."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from busbar.sdk import (
    Context,
    NotFound,
    Page,
    SortColumn,
    Where,
    columns_of,
    fetch_page,
    fetchrow,
    module_scope,
    page_request,
)
from busbar_pm.plan_triggers import Trigger
from busbar_pm.plans import OrderTemplate, template_of, trigger_of


class PlanView(msgspec.Struct, frozen=True, kw_only=True):
    """A maintenance plan."""

    plan_id: UUID
    name: str
    kind: str
    asset_id: str | None
    asset_type: str | None
    trigger: Trigger
    template: OrderTemplate
    lead_days: int
    active: bool
    next_due: date | None
    """Of a calendar plan; null when its dates have come to an end."""
    next_value: Decimal | None
    """Of a meter plan: the due reading."""
    armed: bool
    """Of a condition plan: whether the next reading beyond the limit calls."""
    calls: int
    site: str
    version: int
    created_at: datetime
    updated_at: datetime


class CallView(msgspec.Struct, frozen=True, kw_only=True):
    """A plan fell due, and this order was opened."""

    number: int
    order_id: UUID
    ticket_id: str
    order_status: str
    due_date: date
    reading: Decimal | None
    incident_id: UUID | None
    covered: int
    """Earlier due dates or readings that passed without a call, for which the order stands as well."""
    reason: str
    called_at: datetime


PLAN_SORT = {
    "name": SortColumn(sql="name", type=str),
    "created_at": SortColumn(sql="created_at", type=datetime),
    "next_due": SortColumn(sql="next_due", type=date | None, nullable=True),
    "plan_id": SortColumn(sql="plan_id", type=UUID),
}
_CALLS = """(
    select c.*, o.ticket_id, o.status as order_status from pm.maintenance_call c
    join (select order_id, ticket_id, status from pm.maintenance_order) o using (order_id)
) c"""
CALL_SORT = {"number": SortColumn(sql="number", type=int)}
_PLAN = columns_of(PlanView)


def _plan(row: Any) -> PlanView:
    return PlanView(**{**row, "trigger": trigger_of(row), "template": template_of(row)})


async def get_plan(ctx: Context, plan_id: UUID) -> PlanView:
    """One maintenance plan.

    Raises:
        NotFound: there is no such plan at the actor's sites.
    """
    row = await fetchrow(
        f"select {_PLAN} from pm.maintenance_plan where plan_id = $1 and site_id = any($2)",
        plan_id,
        await module_scope(ctx, "pm"),
    )
    if row is None:
        raise NotFound(f"There is no maintenance plan {plan_id}.")
    return _plan(row)


async def list_plans(where: Where, *, limit: int, cursor: str | None, sort: str | None) -> Page[PlanView]:
    """A page of maintenance plans, by name unless `sort` says otherwise."""
    asked = page_request(limit=limit, cursor=cursor, sort=sort, columns=PLAN_SORT, default="name", key="plan_id")
    return await fetch_page(asked, where, columns=_PLAN, source="pm.maintenance_plan", to_item=_plan)


async def list_calls(
    ctx: Context, plan_id: UUID, *, limit: int, cursor: str | None, sort: str | None
) -> Page[CallView]:
    """A page of a plan's calls, the latest first unless `sort` says otherwise.

    Raises:
        NotFound: there is no such plan at the actor's sites.
    """
    await get_plan(ctx, plan_id)
    asked = page_request(limit=limit, cursor=cursor, sort=sort, columns=CALL_SORT, default="-number", key="number")
    return await fetch_page(
        asked,
        Where("plan_id = $1", plan_id),
        columns=columns_of(CallView),
        source=_CALLS,
        to_item=lambda row: CallView(**row),
    )
