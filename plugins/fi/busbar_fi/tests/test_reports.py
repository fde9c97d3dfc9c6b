"""Reports: every sum equals that of the entries to the cent, and exports carry the same digits and no formulas."""

import csv
import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest_asyncio

from busbar.sdk import execute, fetch, uuid7
from busbar.testing.app import Client
from busbar_fi.exports import as_csv, as_xlsx
from busbar_fi.reports import CostReport, CostRow
from busbar_fi.tests.conftest import Office
from busbar_fi.tests.desk import YEAR, add_center, add_ticket, new_id

Key = Callable[[dict[str, Any]], Any]
KEYS: dict[str, Key] = {
    "cost_type": lambda entry: entry["cost_type"],
    "period": lambda entry: entry["posting_date"].strftime("%Y-%m"),
    "asset": lambda entry: entry["asset_id"],
    "ticket": lambda entry: entry["ticket_id"],
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tree(olga: Client) -> dict[str, str]:
    """A small hierarchy with entries of every kind, two currencies, two years, some reversed."""
    top = await add_center(olga, name="Top", budget_amount="10000.00", over_budget="off")
    left = await add_center(olga, name="Left", parent_id=top, budget_amount="500.00")
    below = await add_center(olga, name="Below", parent_id=left, budget_amount="50.00")
    swiss = await add_center(olga, name="Swiss", currency="CHF")
    tickets = [await add_ticket(object_id=f"o-{n}") for n in range(3)]
    for ticket, asset in zip(tickets, ("TRF-1", "TRF-2", None), strict=True):
        await execute(
            "insert into fi.cost_object (ticket_id, kind, object_id, asset_id, site_id, updated_at) "
            "values ($1, 'order', 'x', $2, 'a', now())",
            ticket,
            asset,
        )
    for n in range(40):
        entry = {
            "ticket_id": tickets[n % 3],
            "amount": f"{(n * 7919) % 997}.{n * 37 % 100:02}" if n else "0.01",
            "cost_type": ("OPEX", "CAPEX")[n % 2],
            "cost_center_id": (top, left, below, swiss)[n % 4],
            "posting_date": f"{YEAR - n % 2 - 1}-{n % 12 + 1:02}-15",
        }
        posted = await olga.post("/fi/cost-entries", entry)
        if n % 9 == 0:
            await olga.post(f"/fi/cost-entries/{posted['entry_id']}/reverse", {"reason": "=cmd()"})
    return {"top": top, "left": left, "below": below, "swiss": swiss}


async def entries_of() -> list[dict[str, Any]]:
    return [dict(row) for row in await fetch("select * from fi.cost_entry where site_id = 'a'")]


def summed(entries: list[dict[str, Any]], key: Key) -> dict[tuple[Any, str], Decimal]:
    sums: dict[tuple[Any, str], Decimal] = defaultdict(Decimal)
    for entry in entries:
        sums[key(entry), entry["currency"]] += entry["amount"]
    return dict(sums)


class TestAReport:
    async def test_adds_up_to_the_cent_by_everything(self, olga: Client, tree: dict[str, str]) -> None:
        entries = await entries_of()
        for by, key in KEYS.items():
            report = await olga.get(f"/fi/reports/costs?by={by}")
            found = {(row["key"], row["currency"]): Decimal(row["amount"]) for row in report["rows"]}
            assert found == summed(entries, key), by
            assert report["rows_total"] == len(found)
            split = [Decimal(row["capex"]) + Decimal(row["opex"]) - Decimal(row["amount"]) for row in report["rows"]]
            assert set(split) == {Decimal(0)}
            totals = {each["currency"]: Decimal(each["amount"]) for each in report["totals"]}
            assert totals == {currency: amount for (_, currency), amount in summed(entries, lambda _: 0).items()}

    async def test_keeps_to_its_filters(self, olga: Client, tree: dict[str, str]) -> None:
        entries = await entries_of()
        below = {tree["left"], tree["below"]}
        wanted: list[tuple[str, Key]] = [
            (f"fiscal_year={YEAR - 1}", lambda entry: entry["fiscal_year"] == YEAR - 1),
            (f"cost_center_id={tree['left']}", lambda entry: entry["cost_center_id"] in below),
            ("cost_type=CAPEX", lambda entry: entry["cost_type"] == "CAPEX"),
            ("asset_id=TRF-1", lambda entry: entry["asset_id"] == "TRF-1"),
            (f"until={YEAR - 1}-06-30", lambda entry: entry["posting_date"].isoformat() <= f"{YEAR - 1}-06-30"),
        ]
        for query, keep in wanted:
            report = await olga.get(f"/fi/reports/costs?by=cost_type&{query}")
            found = {(row["key"], row["currency"]): Decimal(row["amount"]) for row in report["rows"]}
            assert found == summed([entry for entry in entries if keep(entry)], KEYS["cost_type"]), query
        refused = await olga.send("GET", f"/fi/reports/costs?by=period&from={YEAR}-02-01&until={YEAR}-01-01")
        assert refused.status == 400

    async def test_by_cost_center_rolls_up_and_shows_the_budget(self, olga: Client, tree: dict[str, str]) -> None:
        await olga.send("PUT", f"/fi/cost-centers/{tree['top']}/budgets/{YEAR - 1}", {"budget_amount": "9000.00"})
        entries = [entry for entry in await entries_of() if entry["fiscal_year"] == YEAR - 1]
        report = await olga.get(f"/fi/reports/costs?by=cost_center&fiscal_year={YEAR - 1}")
        rows = {row["key"]: row for row in report["rows"]}
        own = summed(entries, lambda entry: entry["cost_center_id"])
        for center in tree.values():
            currency = rows[center]["currency"]
            assert Decimal(rows[center]["amount"]) == own.get((center, currency), Decimal(0))
        with_below = sum((own.get((tree[name], "EUR"), Decimal(0)) for name in ("top", "left", "below")), Decimal(0))
        top = rows[tree["top"]]
        assert Decimal(top["amount_with_below"]) == with_below
        assert (top["budget_amount"], top["committed_with_below"]) == ("9000.00", "0.00")
        assert Decimal(top["available"]) == 9000 - with_below
        assert rows[tree["left"]]["parent"] == tree["top"]
        only = await olga.get(f"/fi/reports/costs?by=cost_center&cost_center_id={tree['left']}")
        assert {row["key"] for row in only["rows"]} == {tree["left"], tree["below"]}
        assert only["rows_total"] == 2

    async def test_shows_other_sites_nothing(self, office: Office, tree: dict[str, str]) -> None:
        report = await (await office.client("otto")).get("/fi/reports/costs?by=ticket")
        assert (report["rows"], report["totals"]) == ([], [])


class TestAnExport:
    async def test_as_csv_has_all_rows_with_their_digits(self, olga: Client, tree: dict[str, str]) -> None:
        answer = await olga.send("GET", "/fi/reports/costs?by=ticket&format=csv")
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="costs-by-ticket.csv"'
        rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
        found = {(row["key"], row["currency"]): Decimal(row["amount"]) for row in rows}
        assert found == summed(await entries_of(), KEYS["ticket"])

    async def test_as_xlsx_has_the_same_digits(self, olga: Client, tree: dict[str, str]) -> None:
        report = await olga.get("/fi/reports/costs?by=ticket")
        answer = await olga.send("GET", "/fi/reports/costs?by=ticket&format=xlsx")
        amounts = [Decimal(number) for number in re.findall(r'<c r="E\d+" s="1"><v>([^<]*)</v>', sheet(answer.content))]
        assert amounts == [Decimal(row["amount"]) for row in report["rows"]]

    async def test_has_no_cell_that_is_a_formula(self, olga: Client) -> None:
        for name in ("=1+1", "+1", "-1", "@SUM(1)"):
            await add_center(olga, cost_center_id=new_id("zz"), name=name)
        answer = await olga.send("GET", "/fi/reports/costs?by=cost_center&format=csv")
        labels = {row["label"] for row in csv.DictReader(io.StringIO(answer.content.decode()))}
        assert {"'=1+1", "'+1", "'-1", "'@SUM(1)"} <= labels
        assert not [label for label in labels if label.startswith(("=", "+", "-", "@"))]
        answer = await olga.send("GET", "/fi/reports/costs?by=cost_center&format=xlsx")
        assert "<f>" not in sheet(answer.content)
        assert "=1+1" in sheet(answer.content)

    async def test_keeps_every_digit_of_the_largest_amounts(self) -> None:
        def row(amount: str) -> CostRow:
            number = Decimal(amount)
            return CostRow(
                key=str(uuid7()), label="", currency="EUR", entries=1, amount=number, capex=number, opex=Decimal(0)
            )

        amounts = ["9999999999999.99", "-9999999999999.98", "0.01", "12345678901234567.89", "0.10"]
        rows = tuple(row(amount) for amount in amounts)
        report = CostReport(by="asset", fiscal_year=None, rows=rows, rows_total=5, totals=())
        text = b"".join([part async for part in as_csv(report)]).decode()
        assert [line["amount"] for line in csv.DictReader(io.StringIO(text))] == amounts
        xml = sheet(b"".join([part async for part in as_xlsx(report)]))
        numbers = re.findall(r'<c r="E\d+" s="1"><v>([^<]*)</v>', xml)
        assert numbers == ["9999999999999.99", "-9999999999999.98", "0.01", "0.10"]
        assert "<t>12345678901234567.89</t>" in xml


def sheet(workbook: bytes) -> str:
    return zipfile.ZipFile(io.BytesIO(workbook)).read("xl/worksheets/sheet1.xml").decode()
