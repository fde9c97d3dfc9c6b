"""Material that materials management issues to an order becomes part of its cost, once each."""

import asyncio
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from busbar.sdk import Context, RuleViolated, StoredEvent, fetchval, system_actor, transaction, utc_now, uuid7
from busbar_pm import inbound, order_completion, order_queries, orders
from busbar_pm.assets import AssetFields
from busbar_pm.assets import create as add_asset
from busbar_pm.order_completion import Actuals, CostEntry
from busbar_pm.order_work import PlannedComponent

PM = Context(actor=system_actor("pm"), correlation_id="chain")


def moved(ticket_id: str | None, quantity: str, value: str, **fields: Any) -> StoredEvent:
    data = {
        "transaction_id": str(uuid4()), "material_id": "M-1", "description": "Oil", "unit_of_measure": "l",
        "quantity_change": quantity, "new_quantity": "5", "transaction_type": "issue", "storage_location": "S",
        "ticket_id": ticket_id, "value": value, "currency": "EUR", "posted_by": "mara", "note": None, "news": [1],
    } | fields  # fmt: skip
    return StoredEvent(
        event_id=uuid7(), event_type="MM_STOCK_CHANGED", module="mm", site_id="north", subject="M-1",
        time=utc_now(), data=msgspec.Raw(msgspec.json.encode(data)), schema_version=1, correlation_id="chain",
        traceparent=None, actor_id="mara", origin=None,
    )  # fmt: skip


async def take(event: StoredEvent) -> None:
    async with transaction():
        await inbound.take_issue(PM, event)


async def order(ctx: Context) -> tuple[UUID, str]:
    asset_id = await add_asset(ctx, asset_id=None, site_id="north", fields=AssetFields(asset_type="pump", name="P"))
    opened = await orders.plan(
        ctx,
        orders.NewOrder(
            asset_id=asset_id,
            order_type="corrective",
            description="Mend it",
            scheduled_date=date(2027, 1, 1),
            components=(PlannedComponent(material_id="M-1", quantity=Decimal(3)),),
        ),
    )
    return UUID(opened.order_id), opened.ticket_id


class TestAnIssueToAnOrder:
    async def test_is_seen_beside_what_was_planned(self, ctx: Context) -> None:
        order_id, ticket_id = await order(ctx)
        await take(moved(ticket_id, "-2.5", "31.25"))
        await take(moved(ticket_id, "-1", "7.10", material_id="M-9"))
        view = await order_queries.get_order(ctx, order_id)
        assert view.work is not None
        seen = [(c.material_id, c.planned, c.issued, c.issued_value) for c in view.work.components]
        assert seen == [("M-1", 3, Decimal("2.5"), Decimal("31.25")), ("M-9", 0, 1, Decimal("7.10"))]
        assert (view.work.costs.issued, view.work.costs.total) == (Decimal("38.35"), Decimal("38.35"))

    async def test_counts_once_however_often_it_is_told(self, ctx: Context) -> None:
        order_id, ticket_id = await order(ctx)
        event = moved(ticket_id, "-2", "10.00")
        await asyncio.gather(*(take(event) for _ in range(4)))
        await take(event)
        view = await order_queries.get_order(ctx, order_id)
        assert view.work is not None
        assert (view.work.costs.issued, view.version) == (10, 2)

    async def test_that_comes_back_lowers_the_cost(self, ctx: Context) -> None:
        order_id, ticket_id = await order(ctx)
        await take(moved(ticket_id, "-3", "30.00"))
        await take(moved(ticket_id, "1", "10.00", transaction_type="receipt"))
        view = await order_queries.get_order(ctx, order_id)
        assert view.work is not None
        assert (view.work.components[0].issued, view.work.costs.issued) == (2, 20)

    async def test_is_in_the_assets_history_whether_it_came_before_or_after(self, ctx: Context) -> None:
        order_id, ticket_id = await order(ctx)
        await take(moved(ticket_id, "-1", "10.00"))
        bill = Actuals(costs=(CostEntry(description="Crane", amount=Decimal("100.00")),))
        await order_completion.complete(ctx, order_id, notes="Done", actuals=bill)
        cost = "select cost from pm.asset_history where object_id = $1"
        assert await fetchval(cost, str(order_id)) == Decimal("110.00")
        late = moved(ticket_id, "-2", "20.55")
        await take(late)
        await take(late)
        assert await fetchval(cost, str(order_id)) == Decimal("130.55")
        told = await fetchval("select data from core.event where event_type = 'PM_ORDER_COMPLETED'")
        assert msgspec.json.decode(told)["total_cost"] == "100.00"

    async def test_in_another_currency_waits_for_a_person(self, ctx: Context) -> None:
        _, ticket_id = await order(ctx)
        with pytest.raises(RuleViolated, match="valued in USD"):
            await take(moved(ticket_id, "-1", "10.00", currency="USD"))
        assert await fetchval("select count(*) from pm.order_issue") == 0

    async def test_of_something_else_is_left_alone(self, ctx: Context) -> None:
        _, ticket_id = await order(ctx)
        await take(moved(None, "-1", "10.00"))
        for kind in ("transfer", "adjustment"):
            await take(moved(ticket_id, "1", "10.00", transaction_type=kind))
        await take(moved(ticket_id, "1", "10.00", transaction_type="receipt", requisition_id="R-1"))
        await take(moved("TKT-FI-20270101-0001", "-1", "10.00"))
        assert await fetchval("select count(*) from pm.order_issue") == 0


def test_a_movement_is_read_without_what_may_be_missing() -> None:
    data = {"transaction_id": str(uuid4()), "material_id": "M", "transaction_type": "issue", "quantity_change": "-1.5"}
    read = msgspec.convert(data, inbound.StockMovement)
    assert (read.ticket_id, read.value, read.posted_at) == (None, 0, None)
