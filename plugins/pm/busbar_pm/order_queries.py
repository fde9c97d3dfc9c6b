"""Reading maintenance orders: what is planned beside what it took."""

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from busbar.sdk import (
    Context,
    NotFound,
    Page,
    SortColumn,
    Where,
    columns_of,
    fetch,
    fetch_page,
    fetchrow,
    module_scope,
    page_request,
)
from busbar_pm.events import CURRENCY


class ItemView(msgspec.Struct, frozen=True, kw_only=True):
    """An item of a checklist, and who ticked it."""

    position: int
    text: str
    mandatory: bool
    done_at: datetime | None
    done_by: str | None
    note: str | None


class LabourView(msgspec.Struct, frozen=True, kw_only=True):
    """Planned hours of work."""

    description: str
    hours: Decimal
    hourly_rate: Decimal


class ComponentView(msgspec.Struct, frozen=True, kw_only=True):
    """Material: planned beside issued; what was issued without being planned is there too, with 0 planned."""

    material_id: str
    planned: Decimal
    issued: Decimal
    issued_value: Decimal


class ActualView(msgspec.Struct, frozen=True, kw_only=True):
    """A line of cost; hours and rate are those of labour."""

    entry_id: UUID
    kind: str
    description: str
    hours: Decimal | None
    hourly_rate: Decimal | None
    amount: Decimal
    recorded_at: datetime
    recorded_by: str


class CostSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the work is planned to cost, and what it cost so far."""

    planned_hours: Decimal
    planned_labour: Decimal
    actual_hours: Decimal
    actual_labour: Decimal
    external: Decimal
    material: Decimal
    """Bought for the order."""
    issued: Decimal
    """Issued from stock, as materials management values it."""
    total: Decimal
    """Actual labour, external, material and issued."""
    currency: str = CURRENCY


class OrderWork(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of an order."""

    checklist: tuple[ItemView, ...]
    labour: tuple[LabourView, ...]
    components: tuple[ComponentView, ...]
    actuals: tuple[ActualView, ...]
    costs: CostSummary


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """A maintenance order; `work` is filled where one order is read, and null in lists."""

    order_id: UUID
    ticket_id: str
    asset_id: str
    order_type: str
    description: str
    scheduled_date: date
    status: str
    completed_at: datetime | None
    completion_notes: str | None
    cost_center_id: str | None
    cost_type: str
    plan_id: UUID | None
    incident_id: UUID | None
    object_part: str
    damage: str
    cause: str
    detection: str
    site: str
    version: int
    created_at: datetime
    updated_at: datetime
    work: OrderWork | None = None


ORDER_SORT = {
    "scheduled_date": SortColumn(sql="scheduled_date", type=date),
    "created_at": SortColumn(sql="created_at", type=datetime),
    "status": SortColumn(sql="status", type=str),
    "order_id": SortColumn(sql="order_id", type=UUID),
}
_ORDER = columns_of(OrderView, leave_out=["work"])


async def list_orders(where: Where, *, limit: int, cursor: str | None, sort: str | None) -> Page[OrderView]:
    """A page of maintenance orders, the next due first unless `sort` says otherwise."""
    asked = page_request(
        limit=limit, cursor=cursor, sort=sort, columns=ORDER_SORT, default="scheduled_date", key="order_id"
    )
    return await fetch_page(
        asked, where, columns=_ORDER, source="pm.maintenance_order", to_item=lambda row: OrderView(**row)
    )


async def get_order(ctx: Context, order_id: UUID) -> OrderView:
    """One maintenance order, with its parts.

    Raises:
        NotFound: there is no such order at the actor's sites.
    """
    row = await fetchrow(
        f"select {_ORDER} from pm.maintenance_order where order_id = $1 and site_id = any($2)",
        order_id,
        await module_scope(ctx, "pm"),
    )
    if row is None:
        raise NotFound(f"There is no maintenance order {order_id}.")
    return OrderView(**row, work=await _work(order_id))


_COMPONENTS = """
select material_id, coalesce(c.quantity, 0.000) as planned, coalesce(i.quantity, 0.000) as issued,
    coalesce(i.value, 0.00) as issued_value
from (select material_id, quantity from pm.order_component where order_id = $1) c
full join (
    select material_id, sum(quantity) as quantity, sum(value) as value
    from pm.order_issue where order_id = $1 group by material_id
) i using (material_id) order by material_id
"""
_COSTS = """
select p.hours as planned_hours, p.amount as planned_labour, a.hours as actual_hours, a.labour as actual_labour,
    a.external, a.material, i.value as issued, a.labour + a.external + a.material + i.value as total
from (
    select coalesce(sum(hours), 0.000) as hours, coalesce(sum(round(hours * hourly_rate, 2)), 0.00) as amount
    from pm.order_planned_labour where order_id = $1
) p, (
    select coalesce(sum(hours), 0.000) as hours,
        coalesce(sum(amount) filter (where kind = 'labour'), 0.00) as labour,
        coalesce(sum(amount) filter (where kind = 'external'), 0.00) as external,
        coalesce(sum(amount) filter (where kind = 'material'), 0.00) as material
    from pm.order_actual where order_id = $1
) a, (select coalesce(sum(value), 0.00) as value from pm.order_issue where order_id = $1) i
"""


async def _work(order_id: UUID) -> OrderWork:
    items = await fetch(
        f"select {columns_of(ItemView)} from pm.order_checklist_item where order_id = $1 order by position", order_id
    )
    labour = await fetch(
        f"select {columns_of(LabourView)} from pm.order_planned_labour where order_id = $1 order by position", order_id
    )
    actuals = await fetch(
        f"select {columns_of(ActualView)} from pm.order_actual where order_id = $1 order by id", order_id
    )
    components = await fetch(_COMPONENTS, order_id)
    costs = await fetchrow(_COSTS, order_id)
    assert costs is not None, "sums are there always"
    return OrderWork(
        checklist=tuple(ItemView(**row) for row in items),
        labour=tuple(LabourView(**row) for row in labour),
        components=tuple(ComponentView(**row) for row in components),
        actuals=tuple(ActualView(**row) for row in actuals),
        costs=CostSummary(**costs),
    )
