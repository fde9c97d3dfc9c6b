"""Cost entries over HTTP: real tickets and cost centers, positive amounts (SPEC property 9), never past a stop."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busbar.sdk import execute, fetchval
from busbar.testing.app import Client
from busbar_fi.tests.conftest import Office
from busbar_fi.tests.desk import MONEY, SLOW_FIXTURES, YEAR, add_center, add_ticket, new_id, spent, told

PATH = "/fi/cost-entries"


def entry(ticket_id: str, center: str, amount: Any = "10.00", **fields: Any) -> dict[str, Any]:
    return {"ticket_id": ticket_id, "amount": amount, "cost_type": "OPEX", "cost_center_id": center, **fields}


class TestACostEntry:
    @settings(max_examples=30, deadline=None, suppress_health_check=SLOW_FIXTURES)
    @given(
        amount=st.one_of(
            MONEY, st.decimals(-1000, 0, places=2), st.decimals(0, 10, places=4, allow_nan=False), st.just(Decimal(0))
        ),
        cost_type=st.sampled_from(["CAPEX", "OPEX", "capex", "", "LABOUR"]),
        has_ticket=st.booleans(),
        has_center=st.booleans(),
    )
    async def test_is_posted_exactly_when_all_it_names_is_real_and_its_amount_positive(
        self, olga: Client, amount: Decimal, cost_type: str, has_ticket: bool, has_center: bool
    ) -> None:
        center = await add_center(olga, over_budget="off")
        ticket = await add_ticket()
        body = entry(
            ticket if has_ticket else "TKT-PM-20260101-9999", center if has_center else new_id(), f"{amount:f}"
        )
        answer = await olga.send("POST", PATH, body | {"cost_type": cost_type})
        valid = amount > 0 and amount == amount.quantize(Decimal("0.01")) and cost_type in ("CAPEX", "OPEX")
        # "10.0000" is a hundredth-exact amount with too many decimals, and is refused for its form.
        valid = valid and -amount.as_tuple().exponent <= 2  # type: ignore[operator]
        if not valid:
            assert answer.status == 400
        elif not (has_ticket and has_center):
            assert (answer.status, answer.body["code"]) == (404, "RES_001")
        else:
            assert answer.status == 201
            read = await olga.get(f"{PATH}/{answer.body['entry_id']}")
            assert (read["amount"], read["cost_type"]) == (f"{amount:.2f}", cost_type)
            assert (read["ticket_id"], read["cost_center_id"], read["kind"]) == (ticket, center, "cost")
            (event,) = await told("FI_COST_POSTED", ticket)
            assert (event["entry_id"], event["amount"]) == (answer.body["entry_id"], f"{amount:.2f}")
        assert await spent(center) == (Decimal(amount) if answer.status == 201 else 0)

    async def test_on_a_ticket_or_cost_center_of_another_site_is_404(self, olga: Client, office: Office) -> None:
        foreign_ticket = await add_ticket(site="b")
        foreign_center = await add_center(await office.client("otto"))
        await olga.post(PATH, entry(foreign_ticket, await add_center(olga)), status=404)
        await olga.post(PATH, entry(await add_ticket(), foreign_center), status=404)

    async def test_is_for_who_may_write_finance(self, olga: Client, office: Office) -> None:
        body = entry(await add_ticket(), await add_center(olga))
        await (await office.client("anna")).post(PATH, body, status=403)
        await (await office.client("ingo")).post(PATH, body, status=403)

    async def test_belongs_to_the_fiscal_year_of_its_posting_date(self, olga: Client) -> None:
        center = await add_center(olga, fiscal_year_start_month=7)
        ticket = await add_ticket()
        for day, year in ((f"{YEAR - 1}-06-30", YEAR - 2), (f"{YEAR - 1}-07-01", YEAR - 1)):
            posted = await olga.post(PATH, entry(ticket, center, posting_date=day))
            assert (await olga.get(f"{PATH}/{posted['entry_id']}"))["fiscal_year"] == year
        tomorrow = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
        refused = await olga.send("POST", PATH, entry(ticket, center, posting_date=tomorrow))
        assert (refused.status, refused.body["errors"][0]["field"]) == (400, "posting_date")

    async def test_cannot_be_changed_or_deleted_by_any_statement(self, olga: Client) -> None:
        posted = await olga.post(PATH, entry(await add_ticket(), await add_center(olga)))
        for statement in (
            f"update fi.cost_entry set amount = 1 where entry_id = '{posted['entry_id']}'",
            f"delete from fi.cost_entry where entry_id = '{posted['entry_id']}'",
            "truncate fi.cost_entry cascade",
        ):
            with pytest.raises(asyncpg.RestrictViolationError, match="post a reversal"):
                await execute(statement)

    async def test_is_taken_back_once_by_a_reversal(self, olga: Client) -> None:
        center, ticket = await add_center(olga), await add_ticket()
        posted = await olga.post(PATH, entry(ticket, center, "123.45"))
        path = f"{PATH}/{posted['entry_id']}/reverse"
        answers = await asyncio.gather(*(olga.send("POST", path, {"reason": "Wrong ticket"}) for _ in range(3)))
        assert sorted(answer.status for answer in answers) == [201, 422, 422]
        assert await spent(center) == 0
        (year,) = await olga.get(f"/fi/cost-centers/{center}/budgets")
        assert (year["actual_amount"], year["available"]) == ("0.00", "1000.00")
        reversal = next(answer.body for answer in answers if answer.status == 201)
        again = await olga.send("POST", f"{PATH}/{reversal['entry_id']}/reverse", {"reason": "?"})
        assert again.status == 422


class TestAStopBudget:
    async def test_is_never_overspent_by_50_at_once(self, olga: Client) -> None:
        top = await add_center(olga, budget_amount="100.00", over_budget="stop")
        children = [
            await add_center(olga, parent_id=top, budget_amount="99999.00", over_budget=policy)
            for policy in ("off", "warn", "stop")
        ]
        ticket = await add_ticket()
        answers = await asyncio.gather(
            *(olga.send("POST", PATH, entry(ticket, [top, *children][n % 4], "7.00")) for n in range(50))
        )
        statuses = [answer.status for answer in answers]
        assert (statuses.count(201), statuses.count(422)) == (14, 36)
        (year,) = await olga.get(f"/fi/cost-centers/{top}/budgets")
        assert (year["actual_with_below"], year["available"]) == ("98.00", "2.00")
        refused = next(answer.body for answer in answers if answer.status == 422)
        assert refused["code"] == "BUS_002"
        assert "has 2.00 EUR left, and 7.00 are needed" in refused["detail"]

    async def test_takes_exactly_what_is_left(self, olga: Client) -> None:
        center, ticket = await add_center(olga, over_budget="stop"), await add_ticket()
        await olga.post(PATH, entry(ticket, center, "1000.01"), status=422)
        await olga.post(PATH, entry(ticket, center, "1000.00"))
        await olga.post(PATH, entry(ticket, center, "0.01"), status=422)

    async def test_is_not_asked_in_a_year_without_a_budget(self, olga: Client) -> None:
        center, ticket = await add_center(olga, over_budget="stop"), await add_ticket()
        await olga.post(PATH, entry(ticket, center, "5000.00", posting_date=f"{YEAR - 1}-05-05"))


class TestAWarning:
    async def test_is_told_once_for_each_crossing(self, olga: Client) -> None:
        center, ticket = await add_center(olga), await add_ticket()
        await asyncio.gather(*(olga.post(PATH, entry(ticket, center, "300.00")) for _ in range(6)))
        (warning,) = await told("FI_BUDGET_WARNING", center)
        assert warning["budget"]["budget_amount"] == "1000.00"
        await olga.send("PUT", f"/fi/cost-centers/{center}/budgets/{YEAR}", {"budget_amount": "2000.00"})
        await olga.post(PATH, entry(ticket, center, "500.00"))
        assert len(await told("FI_BUDGET_WARNING", center)) == 2

    async def test_comes_from_the_budget_above_too(self, olga: Client) -> None:
        top = await add_center(olga, budget_amount="50.00")
        child = await add_center(olga, parent_id=top, over_budget="off")
        await olga.post(PATH, entry(await add_ticket(), child, "50.01"))
        (warning,) = await told("FI_BUDGET_WARNING", top)
        assert (warning["booked_on"], warning["budget"]["actual_amount"]) == (child, "50.01")

    async def test_does_not_come_where_the_policy_is_off(self, olga: Client) -> None:
        center = await add_center(olga, over_budget="off")
        await olga.post(PATH, entry(await add_ticket(), center, "5000.00"))
        assert await told("FI_BUDGET_WARNING", center) == []

    async def test_comes_when_a_budget_is_lowered_below_what_was_spent(self, olga: Client) -> None:
        center = await add_center(olga)
        await olga.post(PATH, entry(await add_ticket(), center, "900.00"))
        await olga.patch(f"/fi/cost-centers/{center}", {"budget_amount": "800.00"})
        assert len(await told("FI_BUDGET_WARNING", center)) == 1


class TestTheRunningTotals:
    async def test_are_the_sums_of_the_entries_and_commitments(self, olga: Client) -> None:
        differing = await fetchval(
            """
            select count(*) from fi.budget_year y where y.actual_amount <> (
                select coalesce(sum(e.amount), 0) from fi.cost_entry e
                where e.cost_center_id = y.cost_center_id and e.fiscal_year = y.fiscal_year
            ) or y.committed_amount <> (
                select coalesce(sum(c.amount), 0) from fi.commitment c
                where c.cost_center_id = y.cost_center_id and c.fiscal_year = y.fiscal_year
            )"""
        )
        assert differing == 0
        assert await fetchval("select count(*) from fi.budget_year where actual_amount <> 0") > 0
