"""The demo data has something of everything, and adding it twice adds nothing."""

from datetime import UTC, datetime
from decimal import Decimal

from busbar.sdk import Context, fetch, fetchval, system_actor
from busbar.testing.plugins import add_site
from busbar_fi.seed import add_demo_data

NOW = datetime(2026, 10, 15, 12, tzinfo=UTC)
SEED = Context(actor=system_actor("seed"), correlation_id="seed", clock=lambda: NOW)


async def counts() -> dict[str, int]:
    tables = ("cost_center", "budget_year", "cost_entry", "approval_request", "approval_level", "approval_rule")
    return {table: await fetchval(f"select count(*) from fi.{table}") for table in tables} | {
        table: await fetchval(f"select count(*) from core.{table}") for table in ("ticket", "audit", "event")
    }


class TestTheDemoData:
    async def test_has_requests_in_every_state_and_budgets_of_every_policy(self, ctx: Context) -> None:
        await add_demo_data(SEED)
        states = {tuple(row) for row in await fetch("select status, level from fi.approval_request")}
        assert states == {
            ("pending", 1), ("pending", 2), ("approved", 1), ("approved", 2), ("rejected", 1), ("withdrawn", 1),
        }  # fmt: skip
        policies = {row[0] for row in await fetch("select distinct over_budget from fi.cost_center")}
        assert policies == {"off", "warn", "stop"}
        kinds = {tuple(row) for row in await fetch("select distinct kind, cost_type from fi.cost_entry")}
        assert kinds == {("cost", "OPEX"), ("cost", "CAPEX"), ("reversal", "OPEX")}
        assert await fetchval("select count(*) from fi.cost_center where is_default") == 2
        left = await fetchval(
            "select budget_amount - actual_amount from fi.budget_year where cost_center_id = 'NORTH-1120' "
            "and fiscal_year = 2026"
        )
        assert Decimal(0) < left < Decimal(5000)

    async def test_lies_in_the_past(self, ctx: Context) -> None:
        await add_demo_data(SEED)
        assert await fetchval("select max(created_at) from fi.cost_entry") <= NOW
        assert await fetchval("select max(at) from core.audit") <= NOW
        assert await fetchval("select count(*) from fi.approval_request where decided_at < created_at") == 0

    async def test_is_added_only_once_and_to_demo_sites_only(self, ctx: Context) -> None:
        await add_site("real", "fi")
        await add_demo_data(SEED)
        before = await counts()
        await add_demo_data(SEED)
        assert await counts() == before
        sites = {row[0] for row in await fetch("select distinct site_id from fi.cost_center")}
        assert sites == {"north", "south"}
