"""A hundred outages reported over HTTP, and the indices that come of them."""

from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio

from busbar.sdk import execute
from busbar.testing.plugins import add_site
from busbar_pm.tests.conftest import Served
from busbar_pm.tests.indices_reference import (
    BERLIN,
    PARENTS,
    SERVED,
    Outage,
    counted,
    day_of,
    feeder,
    hundred,
    major_days,
)
from busbar_pm.tests.work import report

YEAR = {"site": "berlin", "from": "2024-01-01", "to": "2025-01-01"}
OUTAGES = hundred()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def admin(served: Served) -> httpx.AsyncClient:
    """An administrator; the site `berlin` has the network and the hundred outages."""
    client = await served.client()
    await add_site("berlin", "pm")
    await execute("update core.site set timezone = 'Europe/Berlin' where site_id = 'berlin'")
    for asset_id, parent_id in PARENTS.items():
        is_feeder = feeder(asset_id) == asset_id
        body = {"asset_id": asset_id, "name": asset_id, "asset_type": "feeder" if is_feeder else "line"}
        served_through = {"customers_served": SERVED.get(asset_id, 0), "parent_id": parent_id, "site": "berlin"}
        answer = await client.post("/api/v1/pm/assets", json=body | served_through)
        assert answer.status_code == 201, answer.text
    for outage in OUTAGES:
        await _tell(client, outage)
    return client


async def _tell(client: httpx.AsyncClient, outage: Outage) -> None:
    started = outage.started_at.isoformat()
    opened = await report(client, outage.asset, started_at=started, customers_affected=outage.customers)
    if outage.steps:
        steps = [
            {"restored_at": (outage.started_at.astimezone(UTC) + lasted).isoformat(), "customers_restored": customers}
            for lasted, customers in outage.steps
        ]
        path = f"/api/v1/pm/incidents/{opened['incident_id']}"
        answer = await client.patch(path, json={"steps": steps})
        assert answer.status_code == 200, answer.text
    if outage.state == "cancelled":
        path = f"/api/v1/tickets/{opened['ticket_id']}/cancel"
        answer = await client.post(path, json={"reason": "It was none."})
        assert answer.status_code == 200, answer.text


async def ask(client: httpx.AsyncClient, path: str = "", **parameters: Any) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/pm/indices{path}", params=YEAR | parameters)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def check(cell: dict[str, Any], outages: list[Outage], *, customers: int, major: set[date], as_of: str) -> None:
    """Compare a cell with what plain loops over its outages find."""
    begins, ends = date.fromisoformat(cell["begins"]), date.fromisoformat(cell["ends"])
    inside = [outage for outage in outages if begins <= day_of(outage) < ends]
    normal = [outage for outage in inside if day_of(outage) not in major]
    now = datetime.fromisoformat(as_of)
    for kind, some in (("all_days", inside), ("without_major_event_days", normal)):
        found = cell[kind]
        sustained, minutes, momentary, _ = counted(some, as_of=now)
        assert found["customer_interruptions"] == sustained
        assert found["momentary_interruptions"] == momentary
        assert found["customer_minutes"] == pytest.approx(minutes, rel=1e-12)
        if not customers:
            assert found["saidi_minutes"] is None
            continue
        assert found["saidi_minutes"] == pytest.approx(minutes / customers, rel=1e-12)
        assert found["saifi"] == pytest.approx(sustained / customers, rel=1e-12)
        assert found["maifi"] == pytest.approx(momentary / customers, rel=1e-12)
        assert found["caidi_minutes"] == (pytest.approx(minutes / sustained, rel=1e-12) if sustained else None)
    assert cell["open"]["customers"] == counted(inside, as_of=now)[3]


class TestTheHundred:
    def test_are_a_hundred(self) -> None:
        assert len(OUTAGES) == 100

    @pytest.mark.parametrize("by", ["total", "year", "quarter", "month", "day"])
    async def test_have_the_indices_that_plain_loops_find(self, admin: httpx.AsyncClient, by: str) -> None:
        found = await ask(admin, by=by, **{"from": "2023-01-01"})
        major = set(major_days(OUTAGES, 2024, 5_000, as_of=datetime.fromisoformat(found["as_of"])))
        assert found["customers_served"] == 5_000
        assert [len(found["cells"])] == [{"total": 1, "year": 2, "quarter": 8, "month": 24, "day": 731}[by]]
        for cell in found["cells"]:
            check(cell, OUTAGES, customers=5_000, major=major, as_of=found["as_of"])

    async def test_have_them_by_feeder_too(self, admin: httpx.AsyncClient) -> None:
        found = await ask(admin, by="quarter", per="feeder")
        major = {date.fromisoformat(day["day"]) for day in found["major_event_days"]}
        assert [cell["feeder_id"] for cell in found["cells"][::4]] == ["F1", "F2", "F3", None]
        for cell in found["cells"]:
            own = [outage for outage in OUTAGES if feeder(outage.asset) == cell["feeder_id"]]
            customers = SERVED.get(cell["feeder_id"], 0)
            check(cell, own, customers=customers, major=major, as_of=found["as_of"])

    @pytest.mark.parametrize("feeder_id", ["F1", "F2", "F3"])
    async def test_of_one_feeder_are_the_same_as_among_all(self, admin: httpx.AsyncClient, feeder_id: str) -> None:
        among_all = await ask(admin, by="month", per="feeder")
        alone = await ask(admin, by="month", feeder=feeder_id)

        def without_now(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
            # What is still out gets longer from one answer to the next.
            return [cell | {"open": cell["open"] | {"customer_minutes": 0}} for cell in cells]

        own = [cell for cell in among_all["cells"] if cell["feeder_id"] == feeder_id]
        assert without_now(alone["cells"]) == without_now(own)

    async def test_have_the_major_event_days_that_plain_loops_find(self, admin: httpx.AsyncClient) -> None:
        found = await ask(admin, "/major-event-days", year=2024)
        expected = major_days(OUTAGES, 2024, 5_000, as_of=datetime.fromisoformat(found["as_of"]))
        assert {date.fromisoformat(day["day"]): day["saidi_minutes"] for day in found["days"]} == pytest.approx(
            expected
        )
        assert date(2024, 11, 19) in expected
        threshold = found["threshold"]
        assert all(day["saidi_minutes"] > threshold["t_med_minutes"] for day in found["days"])
        assert (threshold["history_begins"], threshold["history_ends"]) == ("2019-01-01", "2024-01-01")
        assert (await ask(admin))["thresholds"] == [threshold]
        assert (await ask(admin))["major_event_days"] == found["days"]

    async def test_have_no_major_event_day_where_there_is_no_year_before(self, admin: httpx.AsyncClient) -> None:
        found = await ask(admin, "/major-event-days", year=2023)
        assert found["threshold"]["t_med_minutes"] is None
        assert found["days"] == []

    async def test_are_listed_behind_each_cell(self, admin: httpx.AsyncClient) -> None:
        for cell in (await ask(admin, by="quarter", per="feeder"))["cells"]:
            whose = {"feeder": cell["feeder_id"]} if cell["feeder_id"] else {"outside_feeders": True}
            days = {"from": cell["begins"], "to": cell["ends"]}
            for kind, narrower in (("all_days", {}), ("without_major_event_days", {"major_event_days": False})):
                listed = (await ask(admin, "/incidents", limit=200, **days, **whose, **narrower))["items"]
                assert {item["feeder_id"] for item in listed} <= {cell["feeder_id"]}
                for name in ("customer_minutes", "customer_interruptions", "momentary_interruptions"):
                    assert sum(item[name] for item in listed) == pytest.approx(cell[kind][name], rel=1e-12)

    async def test_are_listed_behind_a_major_event_day(self, admin: httpx.AsyncClient) -> None:
        storm = {"from": "2024-11-19", "to": "2024-11-20", "major_event_days": True}
        listed = await ask(admin, "/incidents", **storm)
        assert listed["total"] == 6
        minutes = [item["customer_minutes"] for item in listed["items"]]
        assert minutes == sorted(minutes, reverse=True)
        calm = await ask(admin, "/incidents", **{"from": "2024-11-20", "to": "2024-12-01", "major_event_days": True})
        assert calm["items"] == []

    async def test_come_in_pages(self, admin: httpx.AsyncClient) -> None:
        seen: list[dict[str, Any]] = []
        more: dict[str, Any] = {}
        while True:
            page = await ask(admin, "/incidents", limit=7, **more)
            seen += page["items"]
            if page["next"] is None:
                break
            more = {"cursor": page["next"]}
        in_2024 = [o for o in OUTAGES if day_of(o).year == 2024 and o.state != "cancelled" and o.customers]
        assert len({item["incident_id"] for item in seen}) == len(seen) == page["total"] == len(in_2024)


class TestWhoAsks:
    async def test_sees_nothing_of_another_site(self, admin: httpx.AsyncClient, erna: httpx.AsyncClient) -> None:
        for path in ("", "/incidents", "/major-event-days?year=2024"):
            answer = await erna.get(f"/api/v1/pm/indices{path}", params=None if "?" in path else {"site": "berlin"})
            assert answer.status_code == (200 if "?" in path else 404)
        own = (await erna.get("/api/v1/pm/indices", params={"by": "total", "from": "2023-01-01"})).json()
        assert own["site"] == "north"
        assert own["cells"][0]["all_days"]["customer_interruptions"] == 0
        answer = await erna.get("/api/v1/pm/indices", params={"feeder": "F1"})
        assert (answer.status_code, answer.json()["code"]) == (404, "RES_001")

    @pytest.mark.parametrize(
        ("parameters", "field"),
        [
            ({"to": "2024-01-01"}, "to"),
            ({"from": "2010-01-01"}, "from"),
            ({"from": "0001-01-01"}, "from"),
            ({"to": "9999-12-31"}, "to"),
            ({"by": "day", "per": "feeder", "from": "2015-02-01"}, "by"),
            ({"per": "feeder", "customers_served": "10"}, "customers_served"),
            ({"customers_served": "0"}, "customers_served"),
            ({"by": "week"}, "by"),
        ],
    )
    async def test_is_told_which_parameter_is_wrong(
        self, admin: httpx.AsyncClient, parameters: dict[str, str], field: str
    ) -> None:
        answer = await admin.get("/api/v1/pm/indices", params=YEAR | parameters)
        assert answer.status_code == 400
        assert [error["field"] for error in answer.json()["errors"]] == [field]

    async def test_must_name_the_site_among_several(self, admin: httpx.AsyncClient) -> None:
        answer = await admin.get("/api/v1/pm/indices")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "site")

    async def test_gets_this_year_and_the_year_of_the_end_by_default(self, admin: httpx.AsyncClient) -> None:
        now = datetime.now(BERLIN)
        for sent, begins in (({}, f"{now:%Y}-01-01"), ({"to": "2024-01-01"}, "2023-01-01")):
            answer = await admin.get("/api/v1/pm/indices", params={"site": "berlin", "by": "year"} | sent)
            assert answer.json()["begins"] == begins
        listed = await admin.get("/api/v1/pm/indices/incidents", params={"site": "berlin", "to": "2024-01-01"})
        assert {item["day"][:4] for item in listed.json()["items"]} == {"2023"}

    async def test_may_sort_by_each_column_named(self, admin: httpx.AsyncClient) -> None:
        for column in ("customer_minutes", "customers_affected", "started_at"):
            seen: list[Any] = []
            more: dict[str, Any] = {}
            while not seen or more:
                page = await ask(admin, "/incidents", sort=f"-{column}", limit=9, **more)
                seen += [item[column] for item in page["items"]]
                more = {"cursor": page["next"]} if page["next"] else {}
            assert len(seen) == page["total"]
            assert seen == sorted(seen, reverse=True)

    async def test_may_say_how_many_are_served(self, admin: httpx.AsyncClient) -> None:
        registered, told = await ask(admin, by="total"), await ask(admin, by="total", customers_served=10_000)
        one, other = (answer["cells"][0]["all_days"]["saidi_minutes"] for answer in (registered, told))
        assert other == pytest.approx(one / 2)
        days, registered_days = ([day["day"] for day in each["major_event_days"]] for each in (told, registered))
        assert days == registered_days != []
        feeder_only = await ask(admin, by="total", feeder="F2", customers_served=600)
        assert (feeder_only["customers_served"], feeder_only["cells"][0]["customers_served"]) == (5_000, 600)
