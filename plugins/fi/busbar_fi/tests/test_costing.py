"""Costs by themselves: what other modules tell becomes entries, once each, on the right cost center (SPEC R4.4)."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest_asyncio

from busbar.sdk import execute, fetch, fetchval
from busbar.testing.app import Client
from busbar_fi.tests.conftest import Office
from busbar_fi.tests.desk import add_center, add_ticket, spent, tell, told


def order_facts(**fields: Any) -> dict[str, Any]:
    facts = {"order_id": str(uuid4()), "asset_id": "TRF-1", "asset_name": "T1", "order_type": "corrective"}
    return facts | {"scheduled_date": "2027-01-01"} | fields


async def open_order(**fields: Any) -> tuple[str, dict[str, Any]]:
    """A maintenance ticket with its event told; returns its id and the order's facts."""
    facts = order_facts(**fields)
    ticket_id = await add_ticket(object_id=facts["order_id"])
    await tell("PM_TICKET_CREATED", {"ticket_id": ticket_id, "order": facts}, subject=ticket_id)
    return ticket_id, facts


def stock_change(**fields: Any) -> dict[str, Any]:
    return {
        "transaction_id": str(uuid4()),
        "material_id": "MAT-1",
        "description": "Fuse",
        "unit_of_measure": "pc",
        "quantity_change": "-2.000",
        "new_quantity": "8.000",
        "transaction_type": "issue",
        "storage_location": "A",
        "value": "25.50",
        "currency": "EUR",
        "posted_at": datetime.now(UTC),
        "posted_by": "stan",
        "note": "",
        **fields,
    }


async def deliveries_of(event_id: UUID) -> list[tuple[str, str]]:
    rows = await fetch(
        "select state, coalesce(last_error, '') as detail from core.delivery where event_id = $1 "
        "and subscription like 'fi.%'",
        event_id,
    )
    return [(row["state"], row["detail"]) for row in rows]


async def deliver_again(event_id: UUID) -> None:
    """As when the outcome was lost, or somebody replays it."""
    await execute("update core.delivery set state = 'pending', next_attempt_at = now() where event_id = $1", event_id)


@pytest_asyncio.fixture
async def center(olga: Client) -> AsyncIterator[str]:
    """The default cost center of the site for the time of a test."""
    added = await add_center(olga, is_default=True, budget_amount="100.00")
    yield added
    await olga.patch(f"/fi/cost-centers/{added}", {"is_default": False})


class TestIssuedMaterial:
    async def test_for_an_order_is_a_cost_of_the_orders_cost_center_and_asset(
        self, olga: Client, office: Office
    ) -> None:
        named = await add_center(olga)
        ticket, _ = await open_order(cost_center_id=named, cost_type="CAPEX")
        event_id = await tell("MM_STOCK_CHANGED", stock_change(ticket_id=ticket), subject="MAT-1")
        await office.app.quiet()
        (entry,) = (await olga.get(f"/fi/cost-entries?ticket_id={ticket}"))["items"]
        assert (entry["amount"], entry["cost_center_id"], entry["cost_type"]) == ("25.50", named, "CAPEX")
        assert (entry["asset_id"], entry["source_event_id"]) == ("TRF-1", str(event_id))
        assert entry["description"] == "2 pc of MAT-1 Fuse issued"
        (posted,) = await told("FI_COST_POSTED", ticket)
        assert (posted["amount"], posted["source_event_type"]) == ("25.50", "MM_STOCK_CHANGED")
        sql = "select correlation_id from core.event where event_type = 'FI_COST_POSTED' and subject = $1"
        assert await fetchval(sql, ticket) == f"chain-{event_id}"

    async def test_goes_to_the_named_then_the_orders_then_the_default_cost_center(
        self, olga: Client, office: Office, center: str
    ) -> None:
        named, orders = await add_center(olga), await add_center(olga)
        with_one, _ = await open_order(cost_center_id=orders)
        without, _ = await open_order()
        await tell("MM_STOCK_CHANGED", stock_change(ticket_id=with_one, cost_center_id=named), subject="M")
        await tell("MM_STOCK_CHANGED", stock_change(ticket_id=with_one, value="1.00"), subject="M")
        await tell("MM_STOCK_CHANGED", stock_change(ticket_id=without, value="2.00"), subject="M")
        await tell("MM_STOCK_CHANGED", stock_change(cost_center_id=named, value="4.00"), subject="M")
        await office.app.quiet()
        assert (await spent(named), await spent(orders), await spent(center)) == (
            Decimal("29.50"),
            Decimal("1.00"),
            Decimal("2.00"),
        )

    async def test_that_comes_back_is_a_negative_entry(self, olga: Client, office: Office) -> None:
        named = await add_center(olga)
        ticket, _ = await open_order(cost_center_id=named)
        back = {"transaction_type": "receipt", "quantity_change": "1.000", "value": "12.75"}
        await tell("MM_STOCK_CHANGED", stock_change(ticket_id=ticket), subject="M")
        await tell("MM_STOCK_CHANGED", stock_change(ticket_id=ticket, **back), subject="M")
        await office.app.quiet()
        assert await spent(named) == Decimal("12.75")
        kinds = [item["kind"] for item in (await olga.get(f"/fi/cost-entries?ticket_id={ticket}"))["items"]]
        assert sorted(kinds) == ["cost", "return"]

    async def test_is_no_cost_when_it_is_only_moved_received_or_counted(
        self, olga: Client, office: Office, center: str
    ) -> None:
        for fields in (
            {
                "transaction_type": "receipt",
                "quantity_change": "5.000",
                "requisition_id": "r",
                "cost_center_id": center,
            },
            {"transaction_type": "adjustment", "cost_center_id": center},
            {"transaction_type": "transfer", "to_storage_location": "B", "cost_center_id": center},
            {},
            {"cost_center_id": center, "value": "0.00"},
        ):
            await tell("MM_STOCK_CHANGED", stock_change(**fields), subject="M")
        await office.app.quiet()
        assert await spent(center) == 0

    async def test_delivered_or_replayed_again_is_posted_once(self, olga: Client, office: Office) -> None:
        named = await add_center(olga)
        ticket, _ = await open_order(cost_center_id=named)
        event_id = await tell("MM_STOCK_CHANGED", stock_change(ticket_id=ticket), subject="M")
        await office.app.quiet()
        for _ in range(2):
            await deliver_again(event_id)
            await office.app.quiet()
        assert await deliveries_of(event_id) == [("delivered", "")]
        assert await spent(named) == Decimal("25.50")
        (year,) = await olga.get(f"/fi/cost-centers/{named}/budgets")
        assert year["actual_amount"] == "25.50"
        assert len(await told("FI_COST_POSTED", ticket)) == 1

    async def test_without_any_cost_center_waits_as_a_dead_letter_that_names_the_cure(
        self, olga: Client, office: Office
    ) -> None:
        ticket, _ = await open_order()
        event_id = await tell("MM_STOCK_CHANGED", stock_change(ticket_id=ticket), subject="M")
        await office.app.quiet()
        ((state, detail),) = await deliveries_of(event_id)
        assert state == "dead"
        assert "the site a has no default one; make one with is_default, then replay this delivery" in detail
        added = await add_center(olga, is_default=True)
        admin = await office.app.client()
        (dead,) = (await admin.get("/deliveries?state=dead&subscription=fi.stock"))["items"]
        await admin.post(f"/deliveries/{dead['delivery_id']}/replay", {"reason": "made"}, status=200)
        await office.app.quiet()
        assert await spent(added) == Decimal("25.50")
        await olga.patch(f"/fi/cost-centers/{added}", {"is_default": False})

    async def test_waits_for_the_event_of_its_order(self, olga: Client, office: Office) -> None:
        named, facts = await add_center(olga), order_facts()
        ticket = await add_ticket(object_id=facts["order_id"])
        event_id = await tell("MM_STOCK_CHANGED", stock_change(ticket_id=ticket), subject="M")
        await office.app.quiet(but=["fi.stock"])
        facts["cost_center_id"] = named
        await tell("PM_TICKET_CREATED", {"ticket_id": ticket, "order": facts}, subject=ticket)
        await office.app.quiet()
        assert await spent(named) == Decimal("25.50")
        assert [state for state, _ in await deliveries_of(event_id)] == ["delivered"]

    async def test_for_an_order_older_than_finance_goes_to_the_default(
        self, olga: Client, office: Office, center: str
    ) -> None:
        ticket = await add_ticket()
        long_ago = datetime.now(UTC) - timedelta(minutes=11)
        await tell("MM_STOCK_CHANGED", stock_change(ticket_id=ticket), subject="M", time=long_ago)
        await office.app.quiet()
        assert await spent(center) == Decimal("25.50")

    async def test_passes_a_stop_budget_for_it_has_happened_and_tells_it(self, olga: Client, office: Office) -> None:
        named = await add_center(olga, over_budget="stop", budget_amount="25.49")
        await tell("MM_STOCK_CHANGED", stock_change(cost_center_id=named), subject="M")
        await office.app.quiet()
        assert await spent(named) == Decimal("25.50")
        (exceeded,) = await told("FI_BUDGET_EXCEEDED", named)
        assert (exceeded["refused"], exceeded["change"]) == (False, "25.50")


class TestACompletedOrder:
    async def test_posts_each_of_its_costs_once(self, olga: Client, office: Office) -> None:
        named = await add_center(olga)
        ticket, facts = await open_order(cost_center_id=named, cost_type="CAPEX", planned_cost="400.00")
        await office.app.quiet()
        (year,) = await olga.get(f"/fi/cost-centers/{named}/budgets")
        assert (year["committed_amount"], year["available"]) == ("400.00", "600.00")
        costs = [
            {"kind": "labour", "description": "8 h", "amount": "480.00"},
            {"kind": "external", "description": "Crane", "amount": "100.10"},
            {"kind": "material", "description": "Free", "amount": "0.00"},
        ]
        data = {"ticket_id": ticket, "notes": "", "completed_at": datetime.now(UTC), "order": facts, "costs": costs}
        event_id = await tell("PM_ORDER_COMPLETED", data | {"total_cost": "580.10"}, subject=ticket)
        await office.app.quiet()
        await deliver_again(event_id)
        await office.app.quiet()
        items = (await olga.get(f"/fi/cost-entries?ticket_id={ticket}"))["items"]
        assert sorted((item["amount"], item["description"], item["cost_type"]) for item in items) == [
            ("100.10", "external: Crane", "CAPEX"),
            ("480.00", "labour: 8 h", "CAPEX"),
        ]
        (year,) = await olga.get(f"/fi/cost-centers/{named}/budgets")
        assert (year["committed_amount"], year["actual_amount"]) == ("0.00", "580.10")
        changes = [(each["change"], each["status"]) for each in await told("FI_COMMITMENT_CHANGED", named)]
        assert changes == [("400.00", "open"), ("-400.00", "closed")]
        assert await told("FI_BUDGET_WARNING", named) == []

    async def test_without_a_list_posts_its_total(self, olga: Client, office: Office) -> None:
        named = await add_center(olga)
        ticket, facts = await open_order(cost_center_id=named)
        data = {"ticket_id": ticket, "completed_at": datetime.now(UTC), "order": facts, "total_cost": "77.70"}
        await tell("PM_ORDER_COMPLETED", data, subject=ticket)
        await office.app.quiet()
        assert await spent(named) == Decimal("77.70")

    async def test_in_another_currency_is_a_dead_letter(self, olga: Client, office: Office) -> None:
        named = await add_center(olga)
        ticket, facts = await open_order(cost_center_id=named)
        data = {"ticket_id": ticket, "completed_at": datetime.now(UTC), "order": facts, "total_cost": "5"}
        event_id = await tell("PM_ORDER_COMPLETED", data | {"currency": "USD"}, subject=ticket)
        await office.app.quiet()
        ((state, detail),) = await deliveries_of(event_id)
        assert (state, "is kept in EUR, and the event tells USD" in detail) == ("dead", True)

    async def test_planned_anew_or_cancelled_sets_other_money_aside(self, olga: Client, office: Office) -> None:
        named = await add_center(olga)
        ticket, facts = await open_order(cost_center_id=named, planned_cost="400.00")
        replanned = {"ticket_id": ticket, "order": facts | {"planned_cost": "250.00"}}
        await tell("PM_COMPONENTS_CHANGED", replanned, subject=ticket)
        await tell("MM_STOCK_CHANGED", stock_change(ticket_id=ticket), subject="M")
        await office.app.quiet()
        (commitment,) = (await olga.get(f"/fi/commitments?cost_center_id={named}"))["items"]
        assert (commitment["amount"], commitment["status"]) == ("250.00", "open")
        other = await add_center(olga)
        moved = {"ticket_id": ticket, "order": facts | {"planned_cost": "300.00", "cost_center_id": other}}
        await tell("PM_COMPONENTS_CHANGED", moved, subject=ticket)
        await office.app.quiet()
        (commitment,) = (await olga.get(f"/fi/commitments?cost_center_id={other}"))["items"]
        assert (commitment["amount"], commitment["status"]) == ("300.00", "open")
        (year,) = await olga.get(f"/fi/cost-centers/{named}/budgets")
        assert year["committed_amount"] == "0.00"
        named = other
        updated = {
            "ticket_id": ticket, "ticket_type": "Maintenance", "title": "", "priority": "P3", "status": "Cancelled",
            "previous_status": "Open", "on_hold": False, "assignee": None, "action": "cancel", "comment": None,
            "version": 2, "sla_deadline": datetime.now(UTC), "object_kind": "order", "object_id": facts["order_id"],
        }  # fmt: skip
        await tell("PM_TICKET_UPDATED", updated, subject=ticket)
        await office.app.quiet()
        (commitment,) = (await olga.get(f"/fi/commitments?cost_center_id={named}"))["items"]
        assert (commitment["amount"], commitment["status"]) == ("0.00", "closed")

    async def test_leaves_its_asset_for_costs_posted_by_hand(self, olga: Client, office: Office) -> None:
        named = await add_center(olga)
        incident = {"incident_id": "i-1", "asset_id": "PUMP-7"}
        ticket = await add_ticket(kind="incident", object_id="i-1")
        await tell("PM_TICKET_CREATED", {"ticket_id": ticket, "incident": incident}, subject=ticket)
        await office.app.quiet()
        body = {"ticket_id": ticket, "amount": "5.00", "cost_type": "OPEX", "cost_center_id": named}
        posted = await olga.post("/fi/cost-entries", body)
        assert (await olga.get(f"/fi/cost-entries/{posted['entry_id']}"))["asset_id"] == "PUMP-7"
