"""The demo data has something of everything, and adding it twice adds nothing."""

from datetime import UTC, datetime

from busbar.sdk import Context, fetch, fetchval, system_actor
from busbar.testing.plugins import add_site
from busbar_mm.seed import add_demo_data
from busbar_mm.tests.work import check_books

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
SEED = Context(actor=system_actor("seed"), correlation_id="seed", clock=lambda: NOW)


async def counts() -> dict[str, int]:
    tables = ("mm.material", "mm.stock_transaction", "mm.purchase_requisition", "mm.stock_count", "core.ticket")
    return {table: await fetchval(f"select count(*) from {table}") for table in (*tables, "core.audit", "core.event")}


async def distinct(column: str, table: str) -> set[str]:
    return {row[0] for row in await fetch(f"select distinct {column} from {table}")}


class TestTheDemoData:
    async def test_has_stock_below_at_and_above_its_level_and_work_in_progress(self, ctx: Context) -> None:
        await add_demo_data(SEED)
        rows = await fetch("select distinct sign(quantity - reorder_level)::int as place from mm.material")
        assert {row["place"] for row in rows} == {-1, 0, 1}
        assert await distinct("transaction_type", "mm.stock_transaction") == {
            "receipt",
            "issue",
            "adjustment",
            "transfer",
        }
        assert await distinct("origin || ' ' || status", "mm.purchase_requisition") == {
            "manual requested",
            "manual cancelled",
            "reorder requested",
        }
        assert await distinct("status", "mm.stock_count") == {"open", "posted"}
        assert await fetchval("select count(*) from mm.stock_count_line where counted_quantity is null") > 0
        for material_id in await distinct("material_id", "mm.material"):
            await check_books(material_id)

    async def test_lies_in_the_past(self, ctx: Context) -> None:
        await add_demo_data(SEED)
        assert await fetchval("select max(at) from core.audit") <= NOW
        assert await fetchval("select max(posted_at) from mm.stock_transaction") <= NOW

    async def test_is_added_only_once_and_at_demo_sites_only(self, ctx: Context) -> None:
        await add_site("real", "mm")
        await add_demo_data(SEED)
        before = await counts()
        await add_demo_data(SEED)
        assert await counts() == before
        assert await distinct("site_id", "mm.material") == {"north", "south"}
