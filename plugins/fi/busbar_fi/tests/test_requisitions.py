"""Requisitions: each sets money aside, is checked against the budget, and asks for approval, once."""

import asyncio
from datetime import timedelta
from typing import Any

from busbar.sdk import Context, execute, fetch, fetchval, system_actor, utc_now
from busbar.testing.app import Client
from busbar_fi.reminders import remind
from busbar_fi.tests.asking import PATH, ask, decide, requisition, state_of
from busbar_fi.tests.conftest import Office
from busbar_fi.tests.desk import YEAR, add_center, told


async def request_of(client: Client, facts: dict[str, Any]) -> dict[str, Any]:
    items = (await client.get(f"{PATH}?limit=200"))["items"]
    (found,) = [item for item in items if item["subject_id"] == facts["requisition_id"]]
    return dict(found)


async def committed(client: Client, center: str) -> str:
    (year,) = await client.get(f"/fi/cost-centers/{center}/budgets")
    return str(year["committed_amount"])


class TestARequisition:
    async def test_sets_money_aside_and_asks_for_approval_in_the_name_of_its_requester(
        self, olga: Client, office: Office
    ) -> None:
        center = await add_center(olga)
        facts = await requisition(cost_center_id=center)
        await office.app.quiet()
        request = await request_of(olga, facts)
        assert (request["amount"], request["requested_by"], request["status"]) == ("100.00", "stan", "pending")
        assert request["subject_ticket_id"] == facts["ticket_id"]
        assert request["approval_hierarchy"] == ["role:Finance_Officer"]
        assert await committed(olga, center) == "100.00"
        (change,) = await told("FI_COMMITMENT_CHANGED", center)
        assert (change["amount"], change["source_ticket_id"]) == ("100.00", facts["ticket_id"])
        (ticket,) = await fetch("select * from core.ticket where ticket_id = $1", request["ticket_id"])
        assert ticket["correlation_id"].startswith("chain-")

    async def test_told_again_asks_for_nothing_more(self, olga: Client, office: Office) -> None:
        center = await add_center(olga)
        facts = await requisition(cost_center_id=center)
        await requisition(facts=facts)
        await office.app.quiet()
        await request_of(olga, facts)
        assert await committed(olga, center) == "100.00"

    async def test_follows_the_rules_of_the_site_but_never_asks_the_requester(
        self, olga: Client, office: Office
    ) -> None:
        center = await add_center(olga, over_budget="off")
        rules = [{"up_to": "500.00", "approvers": ["anna"]}, {"approvers": ["anna", "bea"]}]
        await olga.send("PUT", "/fi/approval-rules?site=a", {"rules": rules})
        wanted = (("500.00", "stan", ["anna"]), ("500.01", "stan", ["anna", "bea"]), ("600.00", "anna", ["bea"]))
        for amount, requester, hierarchy in (*wanted, ("1.00", "anna", ["role:Finance_Officer"])):
            facts = await requisition(cost_center_id=center, amount=amount, requested_by=requester)
            await office.app.quiet()
            assert (await request_of(olga, facts))["approval_hierarchy"] == hierarchy
        await olga.send("PUT", "/fi/approval-rules?site=a", {"rules": []})

    async def test_approved_keeps_its_money_until_it_is_received(self, olga: Client, office: Office) -> None:
        center = await add_center(olga)
        facts = await requisition(cost_center_id=center)
        await office.app.quiet()
        assert (await decide(olga, await request_of(olga, facts))).status == 200
        await requisition("APPROVED", facts=facts)
        await office.app.quiet()
        assert await committed(olga, center) == "100.00"
        await requisition("RECEIVED", facts=facts, received_quantity="1.000")
        await office.app.quiet()
        assert await committed(olga, center) == "75.00"
        await requisition("RECEIVED", facts=facts)
        await office.app.quiet()
        assert await committed(olga, center) == "0.00"
        assert [each["status"] for each in await told("FI_COMMITMENT_CHANGED", center)] == [
            "open",
            "reduced",
            "closed",
        ]

    async def test_rejected_by_finance_gives_its_money_back(self, olga: Client, office: Office) -> None:
        center = await add_center(olga)
        facts = await requisition(cost_center_id=center)
        await office.app.quiet()
        assert (await decide(olga, await request_of(olga, facts), "reject")).status == 200
        assert await committed(olga, center) == "0.00"

    async def test_changed_is_asked_for_anew_from_the_first_level_on(self, olga: Client, office: Office) -> None:
        center, other = await add_center(olga), await add_center(olga, over_budget="stop", budget_amount="500.00")
        await olga.send("PUT", "/fi/approval-rules?site=a", {"rules": [{"approvers": ["anna", "bea"]}]})
        facts = await requisition(cost_center_id=center)
        await office.app.quiet()
        anna = await office.client("anna")
        assert (await decide(anna, await request_of(olga, facts))).status == 200
        facts = await requisition("CHANGED", facts=facts, amount="450.00", cost_center_id=other)
        await office.app.quiet()
        request = await request_of(olga, facts)
        assert (request["amount"], request["level"], request["status"]) == ("450.00", 1, "pending")
        assert (await committed(olga, center), await committed(olga, other)) == ("0.00", "450.00")
        (changed,) = await told("FI_APPROVAL_CHANGED", request["ticket_id"])
        assert (changed["approval"]["amount"], changed["approval"]["level"]) == ("450.00", 1)
        assert (await decide(anna, request)).status == 200
        await requisition("CHANGED", facts=facts, amount="500.01")
        await office.app.quiet()
        request = await request_of(olga, facts)
        assert (request["amount"], request["status"]) == ("500.01", "rejected")
        assert await committed(olga, other) == "0.00"
        await olga.send("PUT", "/fi/approval-rules?site=a", {"rules": []})

    async def test_cancelled_withdraws_its_request(self, olga: Client, office: Office) -> None:
        center = await add_center(olga)
        facts = await requisition(cost_center_id=center)
        await requisition("CANCELLED", facts=facts)
        await office.app.quiet()
        request = await request_of(olga, facts)
        assert await state_of(olga, request) == ("withdrawn", 1, "Cancelled")
        assert await committed(olga, center) == "0.00"

    async def test_without_room_in_a_stop_budget_is_rejected_with_the_budget_named(
        self, olga: Client, office: Office
    ) -> None:
        top = await add_center(olga, over_budget="stop", budget_amount="150.00")
        center = await add_center(olga, parent_id=top)
        first, second = await requisition(cost_center_id=center), await requisition(cost_center_id=center)
        await office.app.quiet()
        requests = [await request_of(olga, facts) for facts in (first, second)]
        assert sorted(request["status"] for request in requests) == ["pending", "rejected"]
        refused = next(request for request in requests if request["status"] == "rejected")
        assert await state_of(olga, refused) == ("rejected", 1, "Cancelled")
        assert f"The budget {YEAR} of {top} (Grid) has 50.00 EUR left" in refused["comment"]
        (exceeded,) = await told("FI_BUDGET_EXCEEDED", top)
        assert (exceeded["refused"], exceeded["source_ticket_id"]) == (True, refused["ticket_id"])
        (completed,) = await told("FI_APPROVAL_COMPLETED", refused["ticket_id"])
        assert (completed["decision"], completed["approval"]["subject_kind"]) == ("rejected", "requisition")
        assert await committed(olga, center) == "100.00"

    async def test_past_a_budget_that_warns_asks_all_the_same(self, olga: Client, office: Office) -> None:
        center = await add_center(olga, budget_amount="99.99")
        facts = await requisition(cost_center_id=center)
        await office.app.quiet()
        assert (await request_of(olga, facts))["status"] == "pending"
        (warning,) = await told("FI_BUDGET_WARNING", center)
        assert warning["budget"]["committed_amount"] == "100.00"

    async def test_many_at_once_never_commit_more_than_a_stop_budget(self, olga: Client, office: Office) -> None:
        center = await add_center(olga, over_budget="stop", budget_amount="350.00")
        await asyncio.gather(*(requisition(cost_center_id=center) for _ in range(12)))
        await office.app.quiet()
        assert await committed(olga, center) == "300.00"

    async def test_that_is_over_when_its_event_is_replayed_asks_for_nothing(self, olga: Client, office: Office) -> None:
        facts = await requisition(cost_center_id="CC-LATE")
        await office.app.quiet()
        admin = await office.app.client()
        (dead,) = (await admin.get("/deliveries?state=dead&subscription=fi.requisitions"))["items"]
        await execute("update core.ticket set status = 'Cancelled' where ticket_id = $1", facts["ticket_id"])
        center = await add_center(olga, cost_center_id="CC-LATE")
        await admin.post(f"/deliveries/{dead['delivery_id']}/replay", {"reason": "added"}, status=200)
        await office.app.quiet()
        assert await committed(olga, center) == "0.00"
        assert (await olga.get(f"{PATH}?cost_center_id={center}"))["items"] == []

    async def test_of_unknown_price_asks_without_money(self, olga: Client, office: Office) -> None:
        center = await add_center(olga)
        facts = await requisition(cost_center_id=center, amount="0")
        await office.app.quiet()
        assert (await request_of(olga, facts))["amount"] == "0.00"


class TestReminders:
    async def remind(self, later: timedelta) -> None:
        now = utc_now() + later
        await remind(Context(actor=system_actor("fi"), correlation_id="job", clock=lambda: now))

    async def test_come_once_in_each_interval_and_end_with_the_decision(self, olga: Client, office: Office) -> None:
        await execute("update fi.approval_policy set remind_after_h = 24")
        opened = await ask(olga, await add_center(olga), "anna", "bea")
        await self.remind(timedelta(hours=23))
        assert await told("FI_APPROVAL_REMINDED", opened["ticket_id"]) == []
        for _ in range(2):
            await self.remind(timedelta(hours=25))
        (reminded,) = await told("FI_APPROVAL_REMINDED", opened["ticket_id"])
        assert (reminded["waiting_for"], reminded["waiting_h"]) == ("anna", 25)
        case = "select count(distinct correlation_id) from core.event where subject = $1"
        assert await fetchval(case, opened["ticket_id"]) == 1, "the reminder is told under another correlation id"
        await self.remind(timedelta(hours=50))
        assert len(await told("FI_APPROVAL_REMINDED", opened["ticket_id"])) == 2
        assert (await decide(await office.client("anna"), opened, "reject")).status == 200
        await self.remind(timedelta(hours=500))
        assert len(await told("FI_APPROVAL_REMINDED", opened["ticket_id"])) == 2

    async def test_start_anew_with_the_next_level(self, olga: Client, office: Office) -> None:
        opened = await ask(olga, await add_center(olga), "anna", "bea")
        await self.remind(timedelta(hours=25))
        await decide(await office.client("anna"), opened)
        await self.remind(timedelta(hours=23))
        assert len(await told("FI_APPROVAL_REMINDED", opened["ticket_id"])) == 1
