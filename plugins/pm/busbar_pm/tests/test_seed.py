"""The demo data has something of everything, and adding it twice adds nothing."""

from datetime import UTC, datetime

from busbar.sdk import Context, fetch, fetchval, system_actor
from busbar.testing.plugins import add_site
from busbar_pm.seed import add_demo_data

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
SEED = Context(actor=system_actor("seed"), correlation_id="seed", clock=lambda: NOW)


async def counts() -> dict[str, int]:
    tables = ("pm.asset", "pm.incident", "pm.restoration_step", "pm.maintenance_order", "pm.maintenance_plan",
              "pm.maintenance_call", "pm.measurement", "pm.order_actual", "core.ticket", "core.audit")  # fmt: skip
    return {table: await fetchval(f"select count(*) from {table}") for table in tables}


class TestTheDemoData:
    async def test_has_every_kind_of_asset_and_work_in_every_state(self, ctx: Context) -> None:
        await add_demo_data(SEED)
        kinds = {row[0] for row in await fetch("select distinct asset_type from pm.asset")}
        assert kinds == {"substation", "transformer", "feeder", "switch", "main", "pump", "valve"}
        states = {tuple(row) for row in await fetch("select distinct status, on_hold from core.ticket")}
        assert states == {
            ("Open", False),
            ("Assigned", False),
            ("In_Progress", False),
            ("In_Progress", True),
            ("Closed", False),
            ("Cancelled", False),
        }
        assert await fetchval("select count(*) from core.audit where action = 'ticket.reopen'") == 2
        faults = {row[0] for row in await fetch("select distinct fault_type from pm.incident")}
        assert faults == {"fault", "outage", "degradation"}
        orders = {row[0] for row in await fetch("select distinct status from pm.maintenance_order")}
        assert orders == {"planned", "completed", "cancelled"}
        assert (
            await fetchval("select count(*) from pm.incident where restored_at is null and fault_type = 'outage'") == 2
        )

    async def test_lies_in_the_past_and_keeps_its_order(self, ctx: Context) -> None:
        await add_demo_data(SEED)
        assert await fetchval("select max(at) from core.audit where site_id = 'north'") <= NOW
        wrong = "select count(*) from pm.incident where restored_at < started_at or restored_at > $1"
        assert await fetchval(wrong, NOW) == 0
        assert await fetchval("select count(*) from core.ticket where closed_at < created_at") == 0

    async def test_has_plans_of_every_kind_and_orders_that_they_called_for(self, ctx: Context) -> None:
        await add_demo_data(SEED)
        kinds = {row[0] for row in await fetch("select distinct kind from pm.maintenance_plan")}
        assert kinds == {"calendar", "meter", "condition", "incident"}
        called = await fetch("select kind, count(*) from pm.maintenance_call join pm.maintenance_plan using (plan_id) "
                             "group by kind order by kind")  # fmt: skip
        assert [tuple(row) for row in called] == [("calendar", 2), ("condition", 2), ("meter", 2)]
        assert await fetchval("select count(*) from pm.asset_history where cost > 0 and labour_hours > 0") == 4
        causes = {row[0] for row in await fetch("select distinct cause from pm.incident")}
        assert {"unknown", "vegetation", "third_party", "ageing", "animal"} <= causes

    async def test_is_added_only_once(self, ctx: Context) -> None:
        await add_demo_data(SEED)
        before = await counts()
        await add_demo_data(SEED)
        assert await counts() == before

    async def test_leaves_sites_alone_that_are_no_demo_sites(self, ctx: Context) -> None:
        await add_site("real", "pm")
        await add_demo_data(SEED)
        sites = {row[0] for row in await fetch("select distinct site_id from pm.asset")}
        assert sites == {"north", "south"}
