"""Cost centers over HTTP: they come back as they went in (SPEC property 8), with hierarchy and budgets."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busbar.testing.app import Client
from busbar_fi.cost_centers import DEPTH_MAX
from busbar_fi.tests.conftest import Office
from busbar_fi.tests.desk import MONEY, NAMES, SLOW_FIXTURES, YEAR, add_center, add_ticket, new_id

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,40}", fullmatch=True)


class TestACostCenter:
    @settings(max_examples=30, deadline=None, suppress_health_check=SLOW_FIXTURES)
    @given(
        stem=IDS,
        name=NAMES,
        budget=st.one_of(MONEY, st.just(Decimal("0.00"))),
        year=st.integers(1900, 2200),
        manager=NAMES,
        over_budget=st.sampled_from(["off", "warn", "stop"]),
        month=st.integers(1, 12),
        currency=st.from_regex(r"[A-Z]{3}", fullmatch=True),
    )
    async def test_comes_back_as_it_went_in(
        self, olga: Client, stem: str, name: str, budget: Decimal, year: int, manager: str, **rest: Any
    ) -> None:
        sent = {
            "cost_center_id": f"{stem}-{new_id('x')}",
            "name": name,
            "budget_amount": str(budget),
            "fiscal_year": year,
            "responsible_manager": manager,
            "over_budget": rest["over_budget"],
            "fiscal_year_start_month": rest["month"],
            "currency": rest["currency"],
        }
        sent["cost_center_id"] = sent["cost_center_id"][:60]
        await olga.post("/fi/cost-centers", sent)
        read = await olga.get(f"/fi/cost-centers/{sent['cost_center_id']}")
        assert {field: read[field] for field in sent} == sent
        assert (read["site"], read["version"], read["status"]) == ("a", 1, "active")

    async def test_has_an_id_of_its_own(self, olga: Client) -> None:
        taken = await add_center(olga)
        body = {"cost_center_id": taken, "name": "Again", "budget_amount": "1.00", "fiscal_year": YEAR}
        answer = await olga.send("POST", "/fi/cost-centers", body | {"responsible_manager": "x"})
        assert (answer.status, answer.body["code"]) == (409, "RES_002")

    @pytest.mark.parametrize(
        "amount", ["-1.00", "1.001", "1e400", "NaN", "Infinity", "12345678901234.00", None, [], ""]
    )
    async def test_with_a_bad_budget_is_refused_by_name(self, olga: Client, amount: Any) -> None:
        body = {"cost_center_id": new_id(), "name": "Bad", "budget_amount": amount, "fiscal_year": YEAR}
        answer = await olga.send("POST", "/fi/cost-centers", body | {"responsible_manager": "x"})
        assert answer.status == 400, answer
        assert [error["field"] for error in answer.body["errors"]] == ["budget_amount"]

    async def test_is_changed_by_who_saw_its_version(self, olga: Client) -> None:
        center = await add_center(olga)
        changed = await olga.patch(f"/fi/cost-centers/{center}", {"name": "New"}, headers={"If-Match": '"v1"'})
        assert (changed["name"], changed["version"], changed["budget_amount"]) == ("New", 2, "1000.00")
        stale = await olga.send("PATCH", f"/fi/cost-centers/{center}", {"name": "Old"}, headers={"If-Match": '"v1"'})
        assert (stale.status, stale.body["code"]) == (412, "RES_002")

    async def test_is_hidden_from_other_sites(self, olga: Client, office: Office) -> None:
        center = await add_center(olga)
        otto = await office.client("otto")
        await otto.get(f"/fi/cost-centers/{center}", status=404)
        await otto.patch(f"/fi/cost-centers/{center}", {"name": "Mine"}, status=404)
        assert (await otto.get("/fi/cost-centers"))["items"] == []

    async def test_that_nothing_refers_to_can_be_deleted_and_others_are_closed(self, olga: Client) -> None:
        center, ticket = await add_center(olga), await add_ticket()
        assert (await olga.send("DELETE", f"/fi/cost-centers/{await add_center(olga)}")).status == 204
        entry = {"ticket_id": ticket, "amount": "1.00", "cost_type": "OPEX", "cost_center_id": center}
        await olga.post("/fi/cost-entries", entry)
        refused = await olga.send("DELETE", f"/fi/cost-centers/{center}")
        assert (refused.status, refused.body["code"]) == (422, "BUS_002")
        await olga.patch(f"/fi/cost-centers/{center}", {"status": "closed"})
        refused = await olga.send("POST", "/fi/cost-entries", entry)
        assert (refused.status, "is closed" in refused.body["detail"]) == (422, True)

    async def test_is_the_only_default_of_its_site(self, olga: Client) -> None:
        first = await add_center(olga, is_default=True)
        second = await add_center(olga, is_default=True)
        third = await add_center(olga)
        assert (await olga.get(f"/fi/cost-centers/{first}"))["is_default"] is False
        await olga.patch(f"/fi/cost-centers/{third}", {"is_default": True})
        assert (await olga.get(f"/fi/cost-centers/{second}"))["is_default"] is False
        again = await olga.patch(f"/fi/cost-centers/{third}", {"is_default": True})
        assert (again["is_default"], again["version"]) == (True, 3)
        await olga.patch(f"/fi/cost-centers/{third}", {"is_default": False})


class TestTheHierarchy:
    async def test_has_no_circles(self, olga: Client) -> None:
        top = await add_center(olga)
        middle = await add_center(olga, parent_id=top)
        bottom = await add_center(olga, parent_id=middle)
        for parent in (top, middle, bottom):
            answer = await olga.send("PATCH", f"/fi/cost-centers/{top}", {"parent_id": parent})
            assert (answer.status, answer.body["errors"][0]["field"]) == (400, "parent_id")

    async def test_has_no_circles_when_two_move_at_once(self, olga: Client) -> None:
        for _ in range(5):
            # Two pairs, each to go below the other's lower half; nothing else that they would lock is shared.
            upper = [await add_center(olga, over_budget="off") for _ in range(2)]
            lower = [await add_center(olga, over_budget="off", parent_id=parent) for parent in upper]
            answers = await asyncio.gather(
                olga.send("PATCH", f"/fi/cost-centers/{upper[0]}", {"parent_id": lower[1]}),
                olga.send("PATCH", f"/fi/cost-centers/{upper[1]}", {"parent_id": lower[0]}),
            )
            assert sorted(answer.status for answer in answers) == [200, 400]

    async def test_ends_at_a_depth(self, olga: Client) -> None:
        above = None
        for _ in range(DEPTH_MAX):
            above = await add_center(olga, parent_id=above)
        body = {"cost_center_id": new_id(), "name": "Deep", "budget_amount": "1.00", "fiscal_year": YEAR}
        answer = await olga.send("POST", "/fi/cost-centers", body | {"parent_id": above, "responsible_manager": "x"})
        assert (answer.status, answer.body["errors"][0]["field"]) == (400, "parent_id")
        chain_of_two = await add_center(olga)
        await add_center(olga, parent_id=chain_of_two)
        answer = await olga.send("PATCH", f"/fi/cost-centers/{chain_of_two}", {"parent_id": above})
        assert answer.status == 400

    async def test_keeps_one_currency_and_one_fiscal_year(self, olga: Client) -> None:
        top = await add_center(olga, currency="CHF", fiscal_year_start_month=4)
        child = await olga.get(f"/fi/cost-centers/{await add_center(olga, parent_id=top)}")
        assert (child["currency"], child["fiscal_year_start_month"]) == ("CHF", 4)
        body = {"cost_center_id": new_id(), "name": "x", "budget_amount": "1.00", "fiscal_year": YEAR}
        answer = await olga.send(
            "POST", "/fi/cost-centers", body | {"parent_id": top, "currency": "EUR", "responsible_manager": "x"}
        )
        assert (answer.status, answer.body["errors"][0]["field"]) == (400, "currency")


class TestBudgets:
    async def test_are_set_for_each_fiscal_year(self, olga: Client) -> None:
        center = await add_center(olga)
        answer = await olga.send(
            "PUT",
            f"/fi/cost-centers/{center}/budgets/{YEAR + 1}",
            {"budget_amount": "2500.50"},
            headers={"If-Match": '"v1"'},
        )
        assert (answer.status, answer.headers["ETag"]) == (200, '"v2"')
        years = await olga.get(f"/fi/cost-centers/{center}/budgets")
        assert [(year["fiscal_year"], year["budget_amount"]) for year in years] == [
            (YEAR, "1000.00"),
            (YEAR + 1, "2500.50"),
        ]
        moved = await olga.patch(f"/fi/cost-centers/{center}", {"fiscal_year": YEAR + 1})
        assert (moved["fiscal_year"], moved["budget_amount"]) == (YEAR + 1, "2500.50")
        refused = await olga.send("PATCH", f"/fi/cost-centers/{center}", {"fiscal_year": YEAR + 2})
        assert (refused.status, refused.body["errors"][0]["field"]) == (400, "budget_amount")

    async def test_roll_up(self, olga: Client) -> None:
        top = await add_center(olga, budget_amount="500.00")
        child, ticket = await add_center(olga, parent_id=top, budget_amount="100.00"), await add_ticket()
        for center, amount in ((top, "20.10"), (child, "30.20")):
            entry = {"ticket_id": ticket, "amount": amount, "cost_type": "OPEX", "cost_center_id": center}
            await olga.post("/fi/cost-entries", entry)
        (year,) = await olga.get(f"/fi/cost-centers/{top}/budgets")
        assert (year["actual_amount"], year["actual_with_below"], year["available"]) == ("20.10", "50.30", "449.70")
