"""Posting stock over HTTP: receipts, issues, adjustments, transfers, and what is refused (SPEC R3.4, R3.5)."""

import asyncio
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from busbar.sdk import execute, fetch
from busbar.testing.app import Client, RunningApp
from busbar_mm.tests.work import (
    add,
    add_work_ticket,
    check_books,
    events_of,
    ledger,
    material,
    new_id,
    post,
    posted,
    quantity,
    written,
)


class TestAPosting:
    async def test_answers_with_its_id_and_the_new_quantity(self, store: Client) -> None:
        material_id = await add(store, quantity="10")
        answer = await posted(store, material_id, "-2.5")
        assert set(answer) == {"transaction_id", "new_quantity"}
        assert Decimal(answer["new_quantity"]) == Decimal("7.5")
        opening, issue = await ledger(store, material_id)
        assert (opening["transaction_type"], Decimal(opening["quantity_change"])) == ("receipt", 10)
        assert (issue["transaction_id"], issue["posted_by"]) == (answer["transaction_id"], "store_manager-a")
        assert Decimal(issue["new_quantity"]) == Decimal("7.5")

    async def test_tells_what_changed_with_the_correlation_id_of_the_request(self, store: Client) -> None:
        material_id = await add(store, quantity="10", unit_price="2.50", storage_location="RACK")
        body = {"material_id": material_id, "quantity_change": "-4", "transaction_type": "issue", "note": "For 11A"}
        await store.post("/mm/stock-transactions", body, headers={"X-Correlation-ID": "follow-me"})
        _, told = await events_of(material_id, "MM_STOCK_CHANGED")
        assert (told["quantity_change"], told["new_quantity"], told["value"]) == ("-4", "6.000", "10.00")
        assert (told["transaction_type"], told["storage_location"], told["note"]) == ("issue", "RACK", "For 11A")
        (row,) = await fetch("select * from core.audit where correlation_id = 'follow-me' and action = 'stock.issue'")
        assert (row["object_id"], row["actor_name"], row["site_id"]) == (material_id, "store_manager-a", "a")
        sql = "select count(*) as n from core.event where correlation_id = 'follow-me' and position is not null"
        async with asyncio.timeout(30):
            while (await fetch(sql))[0]["n"] != 1:  # the relay is woken by the commit
                await asyncio.sleep(0.01)

    async def test_is_repeated_only_once_with_an_idempotency_key(self, store: Client) -> None:
        material_id = await add(store, quantity="10")
        body = {"material_id": material_id, "quantity_change": "-4", "transaction_type": "issue"}
        key = {"Idempotency-Key": f"once-{material_id}"}
        first = await store.post("/mm/stock-transactions", body, headers=key)
        assert await store.post("/mm/stock-transactions", body, headers=key) == first
        assert await quantity(store, material_id) == 6

    @pytest.mark.parametrize(
        ("change", "kind"),
        [("-1", "receipt"), ("0", "receipt"), ("1", "issue"), ("0", "issue"), ("0", "adjustment"), ("-1", "transfer")],
    )
    async def test_whose_sign_contradicts_its_type_is_refused(self, store: Client, change: str, kind: str) -> None:
        material_id = await add(store, quantity="10")
        before = await written()
        more = {"to_storage_location": "VAN"} if kind == "transfer" else {}
        answer = await post(store, material_id, change, kind, **more)
        assert (answer.status, answer.body["code"]) == (400, "VAL_001")
        assert [error["field"] for error in answer.body["errors"]] == ["quantity_change"]
        assert await written() == before

    @pytest.mark.parametrize("kind", ["issue", "adjustment"])
    async def test_that_would_go_negative_is_refused_naming_what_is_there(self, store: Client, kind: str) -> None:
        material_id = await add(store, quantity="3")
        before = await written()
        answer = await post(store, material_id, "-3.001", kind)
        assert (answer.status, answer.body["code"]) == (422, "BUS_002")
        assert f"There are 3 EA of {material_id} at MAIN" in answer.body["detail"]
        assert await written() == before

    async def test_is_refused_where_another_location_has_enough(self, store: Client) -> None:
        material_id = await add(store, quantity="10")
        answer = await post(store, material_id, "-1", storage_location="VAN")
        assert (answer.status, answer.body["code"]) == (422, "BUS_002")
        assert "There are 0 EA" in answer.body["detail"]
        assert "10 in all" in answer.body["detail"]

    async def test_of_an_unknown_material_or_one_of_another_site_is_404(self, app: RunningApp, store: Client) -> None:
        foreign = await add(await app.client("Store_Manager", "b"), quantity="5")
        before = await written()
        for material_id in (foreign, "NO-SUCH-THING"):
            answer = await post(store, material_id, "-1")
            assert (answer.status, answer.body["code"]) == (404, "RES_001")
        assert await written() == before

    async def test_beyond_what_can_be_counted_is_refused(self, store: Client) -> None:
        material_id = await add(store, quantity="999999999999.999")
        assert (await post(store, material_id, "0.001", "receipt")).status == 422
        dear = await add(store, unit_price="99999999.9999")
        assert (await post(store, dear, "999999999999", "receipt")).status == 422


class TestAnIssue:
    async def test_to_the_ticket_of_an_order_is_in_ledger_and_event(self, store: Client) -> None:
        material_id = await add(store, quantity="10", cost_center_id="CC-STORE")
        ticket_id = await add_work_ticket()
        await posted(store, material_id, "-2", ticket_id=ticket_id)
        line = (await ledger(store, material_id))[-1]
        assert (line["ticket_id"], line["cost_center_id"]) == (ticket_id, None)
        assert (await events_of(material_id, "MM_STOCK_CHANGED"))[-1]["ticket_id"] == ticket_id

    async def test_without_a_ticket_is_borne_by_the_named_cost_center_or_the_materials(self, store: Client) -> None:
        material_id = await add(store, quantity="10", cost_center_id="CC-STORE")
        await posted(store, material_id, "-1")
        await posted(store, material_id, "-1", cost_center_id="CC-NET")
        told = await events_of(material_id, "MM_STOCK_CHANGED")
        assert [each["cost_center_id"] for each in told] == [None, "CC-STORE", "CC-NET"]

    async def test_to_a_ticket_that_is_not_there_or_cancelled_is_refused(self, store: Client) -> None:
        material_id = await add(store, quantity="10")
        assert (await post(store, material_id, "-1", ticket_id="TKT-PM-20200101-0001")).status == 404
        elsewhere = await add_work_ticket("b")
        assert (await post(store, material_id, "-1", ticket_id=elsewhere)).status == 404
        cancelled = await add_work_ticket()
        await execute("update core.ticket set status = 'Cancelled' where ticket_id = $1", cancelled)
        assert (await post(store, material_id, "-1", ticket_id=cancelled)).status == 422
        assert await quantity(store, material_id) == 10


class TestATransfer:
    async def test_moves_stock_by_two_lines_and_changes_no_sum(self, store: Client) -> None:
        material_id = await add(store, quantity="10", unit_price="3")
        answer = await posted(store, material_id, "4", "transfer", to_storage_location="VAN")
        assert Decimal(answer["new_quantity"]) == 10
        out, back = (await ledger(store, material_id))[1:]
        assert out["transaction_id"] == back["transaction_id"] == answer["transaction_id"]
        assert [Decimal(each["quantity_change"]) for each in (out, back)] == [-4, 4]
        assert [Decimal(each["new_quantity"]) for each in (out, back)] == [6, 10]
        assert [each["storage_location"] for each in (out, back)] == ["MAIN", "VAN"]
        places = await store.get(f"/mm/materials/{material_id}/stock")
        assert [(each["storage_location"], Decimal(each["quantity"])) for each in places] == [("MAIN", 6), ("VAN", 4)]
        told = (await events_of(material_id, "MM_STOCK_CHANGED"))[-1]
        assert (told["quantity_change"], told["to_storage_location"], told["new_quantity"]) == ("4", "VAN", "10.000")
        await check_books(material_id)
        locations = await store.get("/mm/storage-locations?limit=200")
        assert "VAN" in [each["storage_location"] for each in locations["items"]]

    async def test_of_more_than_is_there_or_to_the_same_place_is_refused(self, store: Client) -> None:
        material_id = await add(store, quantity="10")
        assert (await post(store, material_id, "11", "transfer", to_storage_location="VAN")).status == 422
        assert (await post(store, material_id, "1", "transfer", to_storage_location="MAIN")).status == 422
        assert (await post(store, material_id, "1", "transfer")).status == 400
        await check_books(material_id)


class TestTheLedger:
    @pytest.mark.parametrize(
        "statement",
        [
            "update mm.stock_transaction set note = 'never'",
            "delete from mm.stock_transaction",
            "truncate mm.stock_transaction cascade",
        ],
    )
    async def test_is_append_only(self, store: Client, statement: str) -> None:
        await add(store, quantity="1")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await execute(statement)

    async def test_of_all_materials_can_be_filtered(self, store: Client) -> None:
        material_id = await add(store, quantity="5")
        await posted(store, material_id, "-1")
        page = await store.get(f"/mm/stock-transactions?material_id={material_id}&transaction_type=issue")
        assert [Decimal(each["quantity_change"]) for each in page["items"]] == [-1]


class TestABatch:
    async def test_lets_each_posting_stand_or_fall_alone(self, store: Client) -> None:
        material_id, other = await add(store, quantity="10"), await add(store, quantity="100")
        bad: list[dict[str, Any]] = [
            {"material_id": new_id(), "quantity_change": "-1", "transaction_type": "issue"},
            {"material_id": other, "quantity_change": "-101", "transaction_type": "issue"},
        ]
        good = [{"material_id": material_id, "quantity_change": "-1", "transaction_type": "issue"}] * 14
        good += [{"material_id": other, "quantity_change": "-1", "transaction_type": "issue"}] * 14
        answers = await asyncio.gather(
            *(store.send("POST", "/mm/stock-transactions", body) for body in (*good[:14], *bad, *good[14:]))
        )
        assert [answer.status for answer in answers].count(201) == 10 + 14
        assert [answer.status for answer in answers].count(404) == 1
        assert [answer.status for answer in answers].count(422) == 4 + 1
        assert (await quantity(store, material_id), await quantity(store, other)) == (0, 86)
        assert [Decimal(each["new_quantity"]) for each in await ledger(store, material_id)] == list(range(10, -1, -1))
        await check_books(material_id)
        await check_books(other)
        assert len(await events_of(material_id, "MM_STOCK_CHANGED")) == 11


class TestValue:
    async def test_follows_the_moving_average_and_ends_with_the_last_unit(self, store: Client) -> None:
        material_id = await add(store, quantity="10", unit_price="1.00")
        await posted(store, material_id, "5", "receipt", unit_price="2.50")
        found = await material(store, material_id)
        assert (found["stock_value"], found["moving_average"], found["unit_price"]) == ("22.50", "1.5000", "1.0000")
        await posted(store, material_id, "-7")
        assert (await material(store, material_id))["stock_value"] == "12.00"
        await posted(store, material_id, "-8")
        found = await material(store, material_id)
        assert (found["stock_value"], found["moving_average"]) == ("0.00", "1.5000")
        values = [each["value_change"] for each in await ledger(store, material_id)]
        assert values == ["10.00", "12.50", "-10.50", "-12.00"]

    async def test_is_rounded_half_up_and_leaves_no_cent_behind(self, store: Client) -> None:
        material_id = await add(store, quantity="3", unit_price="0.3350")  # 1.005, half up: 1.01
        assert (await material(store, material_id))["stock_value"] == "1.01"
        for _ in range(3):
            await posted(store, material_id, "-1")
        values = [each["value_change"] for each in await ledger(store, material_id)]
        assert values == ["1.01", "-0.34", "-0.34", "-0.33"]
        await check_books(material_id)

    async def test_of_a_receipt_without_a_price_is_that_of_the_stock(self, store: Client) -> None:
        material_id = await add(store, quantity="4", unit_price="2")
        await posted(store, material_id, "4", "receipt", unit_price="4")
        await posted(store, material_id, "2", "receipt")
        assert (await material(store, material_id))["stock_value"] == "30.00"

    async def test_is_not_changed_by_a_transfer(self, store: Client) -> None:
        material_id = await add(store, quantity="3", unit_price="0.3350")
        await posted(store, material_id, "1", "transfer", to_storage_location="VAN")
        assert (await material(store, material_id))["stock_value"] == "1.01"
        assert (await events_of(material_id, "MM_STOCK_CHANGED"))[-1]["value"] == "0.34"
