"""What maintenance orders plan is reserved, drawn by issues to their tickets, and released at their end."""

from decimal import Decimal
from typing import Any

from busbar.sdk import fetch
from busbar.testing.app import Client, RunningApp
from busbar_mm.tests.work import add, add_work_ticket, material, posted, tell


async def plan(app: RunningApp, ticket_id: str, event_type: str = "PM_TICKET_CREATED", **components: str) -> None:
    """What plant maintenance would tell of an order with these components; `_` in a name is `-`."""
    parts = [{"material_id": name.replace("_", "-"), "quantity": wanted} for name, wanted in components.items()]
    order = {"order_id": "1", "asset_id": "TRF-1", "order_type": "corrective", "components": parts}
    await tell(event_type, ticket_id, {"ticket_id": ticket_id, "site": "a", "order": order})
    await app.quiet()


async def amounts(store: Client, material_id: str) -> tuple[Decimal, ...]:
    """Quantity, reserved and available."""
    found: Any = await material(store, material_id)
    return tuple(Decimal(found[name]) for name in ("quantity", "reserved_quantity", "available_quantity"))


async def why_dead(ticket_id: str) -> str:
    """The reason of the one dead letter about the reservations of a ticket."""
    (row,) = await fetch(
        "select d.state, d.last_error as reason from core.delivery d join core.event e using (event_id) "
        "where e.subject = $1 and d.subscription = 'mm.reservations_follow_order'",
        ticket_id,
    )
    assert row["state"] == "dead"
    return str(row["reason"])


class TestAnOrder:
    async def test_reserves_and_its_issues_consume(self, app: RunningApp, store: Client) -> None:
        material_id = await add(store, quantity="10")
        name = material_id.replace("-", "_")
        ticket_id = await add_work_ticket()
        await plan(app, ticket_id, **{name: "4"})
        assert await amounts(store, material_id) == (10, 4, 6)
        await posted(store, material_id, "-3", ticket_id=ticket_id)
        assert await amounts(store, material_id) == (7, 1, 6)
        await posted(store, material_id, "-2", ticket_id=ticket_id)
        assert await amounts(store, material_id) == (5, 0, 5)
        await posted(store, material_id, "-1")
        (found,) = await store.get(f"/mm/materials/{material_id}/reservations")
        assert (found["ticket_id"], Decimal(found["quantity"]), Decimal(found["open_quantity"])) == (ticket_id, 4, 0)

    async def test_follows_a_change_of_its_components(self, app: RunningApp, store: Client) -> None:
        one, two = await add(store, quantity="10"), await add(store, quantity="10")
        ticket_id = await add_work_ticket()
        await plan(app, ticket_id, **{one.replace("-", "_"): "4"})
        await plan(app, ticket_id, "PM_COMPONENTS_CHANGED", **{two.replace("-", "_"): "11"})
        assert await amounts(store, one) == (10, 0, 10)
        assert await amounts(store, two) == (10, 11, -1)
        await plan(app, ticket_id, "PM_COMPONENTS_CHANGED")
        assert await amounts(store, two) == (10, 0, 10)

    async def test_releases_the_rest_when_it_is_completed(self, app: RunningApp, store: Client) -> None:
        material_id = await add(store, quantity="10")
        ticket_id = await add_work_ticket()
        await plan(app, ticket_id, **{material_id.replace("-", "_"): "4"})
        await plan(app, ticket_id, "PM_ORDER_COMPLETED")
        assert await amounts(store, material_id) == (10, 0, 10)

    async def test_releases_the_rest_when_its_ticket_is_cancelled(self, app: RunningApp, store: Client) -> None:
        material_id = await add(store, quantity="10")
        ticket_id = await add_work_ticket()
        await plan(app, ticket_id, **{material_id.replace("-", "_"): "4"})
        told = {"ticket_id": ticket_id, "object_kind": "order", "object_id": "1"}
        await tell("PM_TICKET_UPDATED", ticket_id, told | {"status": "Assigned"})
        await app.quiet()
        assert await amounts(store, material_id) == (10, 4, 6)
        await tell("PM_TICKET_UPDATED", ticket_id, told | {"status": "Cancelled"})
        await app.quiet()
        assert await amounts(store, material_id) == (10, 0, 10)

    async def test_that_plans_an_unknown_material_is_a_dead_letter(self, app: RunningApp, store: Client) -> None:
        ticket_id = await add_work_ticket()
        await plan(app, ticket_id, NO_SUCH_PART="4")
        assert "NO-SUCH-PART, which is no material" in await why_dead(ticket_id)

    async def test_reserves_nothing_of_another_site(self, app: RunningApp, store: Client) -> None:
        elsewhere = await app.client()
        material_id = await add(elsewhere, quantity="10", site="b")
        ticket_id = await add_work_ticket()
        await plan(app, ticket_id, **{material_id.replace("-", "_"): "4"})
        assert await amounts(elsewhere, material_id) == (10, 0, 10)
        assert f"{material_id}, which is no material of the site a" in await why_dead(ticket_id)

    async def test_without_components_reserves_nothing(self, app: RunningApp, store: Client) -> None:
        ticket_id = await add_work_ticket()
        await tell("PM_TICKET_CREATED", ticket_id, {"ticket_id": ticket_id, "incident": {"incident_id": "1"}})
        await app.quiet()
        assert await fetch("select 1 from mm.reservation where ticket_id = $1", ticket_id) == []
