"""Purchase requisitions over HTTP: their tickets, what finance decides, part deliveries, and their end."""

import asyncio
from decimal import Decimal
from typing import Any

from busbar.sdk import fetch, fetchval
from busbar.testing.app import Client, RunningApp
from busbar_mm.tests.work import add, event_types_of, events_of, post, posted, tell, written


async def request(store: Client, material_id: str, quantity: str = "10", **more: Any) -> Any:
    body = {"material_id": material_id, "quantity": quantity, "justification": "Refit of the ring", **more}
    return await store.post("/mm/purchase-requisitions", body)


async def read(store: Client, opened: Any) -> Any:
    return await store.get(f"/mm/purchase-requisitions/{opened['requisition_id']}")


async def ticket(store: Client, opened: Any) -> Any:
    return await store.get(f"/tickets/{opened['ticket_id']}")


async def decide(
    app: RunningApp, opened: Any, decision: str, *, amount: str = "9999999", comment: str | None = None
) -> None:
    """What finance would tell."""
    approval = {"approval_id": "APP-1", "amount": amount, "currency": "EUR", "level": 2, "status": decision}
    approval |= {"subject_kind": "requisition", "subject_id": opened["requisition_id"]}
    data = {"ticket_id": "TKT-FI-1", "approval": approval, "decision": decision, "decided_by": "fred"}
    await tell("FI_APPROVAL_COMPLETED", "TKT-FI-1", data | {"comment": comment})
    await app.quiet()


async def dead_letters(opened: Any) -> list[str]:
    rows = await fetch(
        "select d.last_error as reason from core.delivery d join core.event e using (event_id) where d.state = 'dead' "
        "and d.subscription like 'mm.%' and e.data::text like '%' || $1 || '%'",
        opened["requisition_id"],
    )
    return [row["reason"] for row in rows]


class TestARequest:
    async def test_opens_a_procurement_ticket_and_names_its_cost_center(self, store: Client) -> None:
        material_id = await add(store, unit_price="12.345", description="Cable joint")
        opened = await request(store, material_id, "3", cost_center_id="CC-4100")
        assert set(opened) == {"requisition_id", "ticket_id"}
        found = await read(store, opened)
        assert (found["cost_center_id"], found["status"], found["amount"]) == ("CC-4100", "requested", "37.04")
        work = await ticket(store, opened)
        assert (work["ticket_type"], work["priority"], work["status"]) == ("Procurement", "P3", "Open")
        assert work["title"] == f"Buy 3 EA of {material_id}: Cable joint"
        created, requested = await events_of(opened["ticket_id"])
        assert created["requisition"] == requested["requisition"]
        assert (created["ticket_type"], requested["requisition"]["amount"]) == ("Procurement", "37.04")

    async def test_of_what_is_not_there_writes_nothing(self, app: RunningApp, store: Client) -> None:
        foreign = await add(await app.client("Store_Manager", "b"))
        before = await written()
        for material_id in (foreign, "NOTHING"):
            body = {"material_id": material_id, "quantity": "1", "cost_center_id": "CC", "justification": "?"}
            answer = await store.send("POST", "/mm/purchase-requisitions", body)
            assert (answer.status, answer.body["code"]) == (404, "RES_001")
        for quantity in ("0", "-1", "1.0001"):
            body = {"material_id": foreign, "quantity": quantity}
            assert (await store.send("POST", "/mm/purchase-requisitions", body)).status == 400
        assert await written() == before

    async def test_can_be_changed_until_it_is_approved(self, app: RunningApp, store: Client) -> None:
        material_id = await add(store, unit_price="2")
        opened = await request(store, material_id)
        path = f"/mm/purchase-requisitions/{opened['requisition_id']}"
        changed = await store.patch(path, {"quantity": "4", "justification": "Less"})
        assert (Decimal(changed["quantity"]), changed["amount"], changed["version"]) == (4, "8.00", 2)
        (told,) = await events_of(opened["ticket_id"], "MM_REQUISITION_CHANGED")
        assert (told["changed"], told["requisition"]["amount"]) == (["quantity", "justification"], "8.00")
        stale = await store.send("PATCH", path, {"quantity": "5"}, headers={"If-Match": '"v1"'})
        assert stale.status == 412
        await decide(app, opened, "approved")
        late = await store.send("PATCH", path, {"quantity": "5"})
        assert (late.status, late.body["code"]) == (422, "BUS_002")


class TestADecision:
    async def test_to_approve_moves_the_ticket_and_lets_it_be_ordered_and_received(
        self, app: RunningApp, store: Client
    ) -> None:
        material_id = await add(store, unit_price="2")
        opened = await request(store, material_id, "10")
        path = f"/mm/purchase-requisitions/{opened['requisition_id']}"
        early = await post(store, material_id, "1", "receipt", requisition_id=opened["requisition_id"])
        assert (early.status, early.body["code"]) == (422, "BUS_002")
        assert (await store.send("POST", f"{path}/order", {})).status == 422
        await decide(app, opened, "approved", amount="20.00", comment="Go on")
        assert ((await read(store, opened))["status"], (await ticket(store, opened))["status"]) == (
            "approved",
            "In_Progress",
        )
        (approved,) = await events_of(opened["ticket_id"], "MM_REQUISITION_APPROVED")
        assert (approved["decided_by"], approved["comment"]) == ("fred", "Go on")
        assert approved["requisition"]["status"] == "approved"
        ordered = await store.post(f"{path}/order", {"external_number": "4500001"}, status=200)
        assert (ordered["status"], ordered["external_number"]) == ("ordered", "4500001")
        await posted(store, material_id, "4", "receipt", requisition_id=opened["requisition_id"])
        assert (await read(store, opened))["status"] == "ordered"
        await posted(store, material_id, "6", "receipt", requisition_id=opened["requisition_id"], unit_price="2.20")
        found = await read(store, opened)
        assert (found["status"], Decimal(found["received_quantity"])) == ("received", 10)
        assert (await ticket(store, opened))["status"] == "Closed"
        told = await events_of(opened["ticket_id"], "MM_REQUISITION_RECEIVED")
        assert [(each["requisition"]["status"], Decimal(each["received_quantity"])) for each in told] == [
            ("ordered", 4),
            ("received", 10),
        ]
        late = await post(store, material_id, "1", "receipt", requisition_id=opened["requisition_id"])
        assert late.status == 422

    async def test_to_reject_cancels_the_ticket_with_the_reason(self, app: RunningApp, store: Client) -> None:
        opened = await request(store, await add(store))
        await decide(app, opened, "rejected", comment="No budget")
        found = await read(store, opened)
        assert (found["status"], found["decided_by"], found["comment"]) == ("rejected", "fred", "No budget")
        assert (await ticket(store, opened))["status"] == "Cancelled"
        trail = await store.get(f"/tickets/{opened['ticket_id']}/audit")
        assert [each["comment"] for each in trail if each["action"] == "ticket.cancel"] == ["No budget"]
        assert "MM_REQUISITION_REJECTED" in await event_types_of(opened["ticket_id"])
        assert "MM_REQUISITION_CANCELLED" not in await event_types_of(opened["ticket_id"])

    async def test_to_withdraw_calls_it_off(self, app: RunningApp, store: Client) -> None:
        opened = await request(store, await add(store))
        await decide(app, opened, "withdrawn")
        assert (await read(store, opened))["status"] == "cancelled"

    async def test_about_less_than_is_asked_for_by_now_is_a_dead_letter(self, app: RunningApp, store: Client) -> None:
        opened = await request(store, await add(store, unit_price="2"), "10")
        await decide(app, opened, "approved", amount="19.99")
        assert (await read(store, opened))["status"] == "requested"
        (reason,) = await dead_letters(opened)
        assert "asks for 20.00 by now, and 19.99 was approved" in reason

    async def test_that_comes_too_late_changes_nothing(self, app: RunningApp, store: Client) -> None:
        opened = await request(store, await add(store))
        assert (await _call_off(store, opened)) == 204
        await decide(app, opened, "approved")
        assert (await read(store, opened))["status"] == "cancelled"
        assert await dead_letters(opened) == []
        sql = "select count(*) from core.audit where object_id = $1 and action = 'requisition.decision_too_late'"
        assert await fetchval(sql, opened["ticket_id"]) == 1

    async def test_about_something_else_is_passed_over(self, app: RunningApp, store: Client) -> None:
        opened = await request(store, await add(store))
        approval = {"approval_id": "2", "amount": "5", "subject_kind": None, "subject_id": None}
        data = {"ticket_id": "TKT-FI-2", "approval": approval, "decision": "approved", "decided_by": "fred"}
        await tell("FI_APPROVAL_COMPLETED", "TKT-FI-2", data)
        await app.quiet()
        assert (await read(store, opened))["status"] == "requested"


class TestCallingOff:
    async def test_cancels_the_ticket_once(self, app: RunningApp, store: Client) -> None:
        opened = await request(store, await add(store))
        assert await _call_off(store, opened) == 204
        assert (await ticket(store, opened))["status"] == "Cancelled"
        await app.quiet()
        assert (await event_types_of(opened["ticket_id"])).count("MM_REQUISITION_CANCELLED") == 1
        assert await _call_off(store, opened) == 422

    async def test_the_ticket_cancels_the_requisition(self, store: Client) -> None:
        opened = await request(store, await add(store))
        await store.post(f"/tickets/{opened['ticket_id']}/cancel", {"reason": "Not needed"}, status=200)
        async with asyncio.timeout(30):
            while (await read(store, opened))["status"] == "requested":
                await asyncio.sleep(0.01)
        found = await read(store, opened)
        assert (found["status"], found["comment"]) == ("cancelled", "Not needed")
        assert (await event_types_of(opened["ticket_id"])).count("MM_REQUISITION_CANCELLED") == 1


async def _call_off(store: Client, opened: Any) -> int:
    return (await store.send("DELETE", f"/mm/purchase-requisitions/{opened['requisition_id']}")).status
