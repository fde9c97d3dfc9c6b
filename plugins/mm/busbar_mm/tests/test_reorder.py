"""The reorder rule: once, for the right quantity, net of what is on its way, whoever posts at the same time."""

import asyncio
from decimal import Decimal

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from busbar.sdk import fetchval
from busbar.testing.app import Client
from busbar_mm.tests.work import (
    add,
    check_books,
    event_types_of,
    events_of,
    ledger,
    post,
    posted,
    quantity,
    requisitions,
    tell,
)

QUANTITIES = st.decimals(min_value=0, max_value=5_000, places=3)


class TestFallingBelowTheLevel:
    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(start=QUANTITIES, issued=QUANTITIES, level=QUANTITIES, buffer=QUANTITIES)
    async def test_reorders_exactly_then_and_what_is_missing(
        self, store: Client, start: Decimal, issued: Decimal, level: Decimal, buffer: Decimal
    ) -> None:
        """Property 6."""
        assume(level <= start)
        assume(0 < issued <= start)
        material_id = await add(
            store, quantity=str(start), reorder_level=str(level), reorder_buffer=str(buffer), unit_price="2.50"
        )
        await posted(store, material_id, -issued)
        left = start - issued
        found = await requisitions(store, material_id)
        if left >= level:
            assert found == []
            return
        (requisition,) = found
        assert Decimal(requisition["quantity"]) == level - left + buffer
        assert (requisition["origin"], requisition["status"]) == ("reorder", "requested")
        ticket = await store.get(f"/tickets/{requisition['ticket_id']}")
        assert (ticket["ticket_type"], ticket["status"], ticket["module"]) == ("Procurement", "Open", "mm")
        (told,) = await events_of(requisition["ticket_id"], "MM_REORDER_TRIGGERED")
        assert Decimal(told["suggested_quantity"]) == level - left + buffer
        assert Decimal(told["quantity_before"]) == left

    async def test_opens_ticket_requisition_and_events_with_one_correlation_id(self, store: Client) -> None:
        material_id = await add(store, quantity="10", reorder_level="5", reorder_buffer="2", cost_center_id="CC-1")
        body = {"material_id": material_id, "quantity_change": "-8", "transaction_type": "issue"}
        await store.post("/mm/stock-transactions", body, headers={"X-Correlation-ID": "chain"})
        (requisition,) = await requisitions(store, material_id)
        ticket_id = requisition["ticket_id"]
        assert await event_types_of(ticket_id) == [
            "MM_TICKET_CREATED",
            "MM_REQUISITION_CREATED",
            "MM_REORDER_TRIGGERED",
        ]
        for told in await events_of(ticket_id):
            facts = told["requisition"]
            assert (facts["requisition_id"], facts["quantity"]) == (requisition["requisition_id"], "5.000")
            assert (facts["cost_center_id"], facts["requested_by"]) == ("CC-1", "store_manager-a")
        sql = "select count(*) from core.event where subject = $1 and correlation_id = 'chain'"
        assert await fetchval(sql, ticket_id) == 3

    async def test_once_more_while_the_reorder_is_open_does_nothing(self, store: Client) -> None:
        material_id = await add(store, quantity="10", reorder_level="5")
        await posted(store, material_id, "-6")
        await posted(store, material_id, "-1")
        await posted(store, material_id, "-1", "adjustment")
        assert len(await requisitions(store, material_id)) == 1

    async def test_under_concurrency_makes_one_ticket(self, store: Client) -> None:
        material_id = await add(store, quantity="60", reorder_level="50", reorder_buffer="10")
        answers = await asyncio.gather(*(post(store, material_id, "-1") for _ in range(40)))
        assert {answer.status for answer in answers} == {201}
        (requisition,) = await requisitions(store, material_id)
        (told,) = await events_of(requisition["ticket_id"], "MM_REORDER_TRIGGERED")
        assert Decimal(requisition["quantity"]) == 60 - Decimal(told["quantity_before"])
        await check_books(material_id)

    async def test_counts_what_is_requested_already(self, store: Client) -> None:
        material_id = await add(store, quantity="10", reorder_level="10", reorder_buffer="5")
        await _request(store, material_id, "6")
        await posted(store, material_id, "-1")  # 1 + 5 are missing, 6 are on their way
        assert len(await requisitions(store, material_id, origin="reorder")) == 0
        await posted(store, material_id, "-3")
        (requisition,) = await requisitions(store, material_id, origin="reorder")
        assert Decimal(requisition["quantity"]) == 4 + 5 - 6

    async def test_of_a_new_material_or_by_a_higher_level_reorders_too(self, store: Client) -> None:
        low = await add(store, quantity="2", reorder_level="5")
        assert [Decimal(each["quantity"]) for each in await requisitions(store, low)] == [3]
        raised = await add(store, quantity="5", reorder_level="5")
        assert await requisitions(store, raised) == []
        await store.patch(f"/mm/materials/{raised}", {"reorder_level": "8"})
        assert [Decimal(each["quantity"]) for each in await requisitions(store, raised)] == [3]


class TestAfterAReorder:
    async def test_received_in_full_the_rule_looks_again(self, store: Client) -> None:
        material_id = await add(store, quantity="10", reorder_level="10")
        await posted(store, material_id, "-4")
        (first,) = await requisitions(store, material_id)
        await _approve(store, first)
        await posted(store, material_id, "-5")
        await posted(store, material_id, "4", "receipt", requisition_id=first["requisition_id"])
        first, second = await requisitions(store, material_id)
        assert (first["status"], second["status"]) == ("received", "requested")
        assert (Decimal(second["quantity"]), await quantity(store, material_id)) == (5, 5)

    async def test_rejected_or_called_off_it_is_not_repeated_before_the_next_posting(self, store: Client) -> None:
        material_id = await add(store, quantity="10", reorder_level="10")
        await posted(store, material_id, "-4")
        (first,) = await requisitions(store, material_id)
        answer = await store.send("DELETE", f"/mm/purchase-requisitions/{first['requisition_id']}")
        assert answer.status == 204
        assert len(await requisitions(store, material_id)) == 1
        await posted(store, material_id, "-1")
        _, second = await requisitions(store, material_id)
        assert (second["status"], Decimal(second["quantity"])) == ("requested", 5)

    async def test_what_a_called_off_request_would_have_brought_is_reordered(self, store: Client) -> None:
        material_id = await add(store, quantity="10", reorder_level="10")
        wanted = await _request(store, material_id, "6")
        await posted(store, material_id, "-4")
        assert len(await requisitions(store, material_id, origin="reorder")) == 0
        await store.send("DELETE", f"/mm/purchase-requisitions/{wanted}")
        (requisition,) = await requisitions(store, material_id, origin="reorder")
        assert Decimal(requisition["quantity"]) == 4


class TestManyClients:
    """50 of them issue and receive the same material; the acceptance test does so for a minute."""

    SECONDS = 2.0
    CLIENTS = 50

    async def test_never_take_more_than_there_is_nor_reorder_twice(self, store: Client) -> None:
        material_id = await add(store, quantity="300", reorder_level="100", reorder_buffer="50", unit_price="1.37")
        loop = asyncio.get_running_loop()
        end = loop.time() + self.SECONDS
        taken: list[Decimal] = []
        refused = 0

        async def issue(number: int) -> None:
            nonlocal refused
            # A store that was never empty would have put nothing to the test.
            while loop.time() < end or not refused:
                change = Decimal(f"-{1 + number % 3}.25")
                kind = "issue"
                if number % 10 == 0:
                    change, kind = -change * 2, "receipt"
                answer = await post(store, material_id, change, kind)
                assert answer.status in (201, 422), answer.content
                if answer.status == 201:
                    taken.append(change)
                else:
                    refused += 1

        async def sample() -> None:
            while loop.time() < end:
                await check_books(material_id)
                await asyncio.sleep(0.05)

        await asyncio.gather(sample(), *(issue(number) for number in range(self.CLIENTS)))
        await check_books(material_id)
        assert await quantity(store, material_id) == 300 + sum(taken)
        lines = await ledger(store, material_id)
        assert len(lines) == 1 + len(taken)
        assert len(await requisitions(store, material_id, origin="reorder")) == 1


async def _request(store: Client, material_id: str, wanted: str) -> str:
    body = {"material_id": material_id, "quantity": wanted, "justification": "Refit"}
    return str((await store.post("/mm/purchase-requisitions", body))["requisition_id"])


async def _approve(store: Client, requisition: dict[str, str]) -> None:
    approval = {"approval_id": "1", "amount": requisition["amount"], "subject_kind": "requisition"}
    approval["subject_id"] = requisition["requisition_id"]
    decided = {"ticket_id": "TKT-FI-1", "approval": approval, "decision": "approved", "decided_by": "fred"}
    await tell("FI_APPROVAL_COMPLETED", "TKT-FI-1", decided)
    async with asyncio.timeout(30):
        while (await requisitions(store, requisition["material_id"]))[0]["status"] == "requested":
            await asyncio.sleep(0.01)
