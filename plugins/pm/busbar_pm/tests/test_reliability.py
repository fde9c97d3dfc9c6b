"""MTBF, MTTR and availability: the rules against plain references, and over HTTP from real incidents."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from busbar.sdk import execute
from busbar_pm.reliability import Failure, observe, summarize
from busbar_pm.tests.conftest import Served
from busbar_pm.tests.test_assets_over_http import add
from busbar_pm.tests.work import report

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
HOURS = 400
END = BEGIN + timedelta(hours=HOURS)


def hour(n: int) -> datetime:
    return BEGIN + timedelta(hours=n)


def failure(start: int, end: int | None) -> Failure:
    return Failure(started_at=hour(start), restored_at=None if end is None else hour(end))


FAILURES = st.builds(
    lambda start, length: failure(start, None if length is None else start + length),
    st.integers(-100, HOURS + 50),
    st.none() | st.integers(0, 120),
)


def figures(*failures: Failure, installed: int | None = None) -> Any:
    installed_at = None if installed is None else hour(installed)
    seen = observe(failures, period_from=BEGIN, period_to=END, installed_at=installed_at)
    return summarize([seen])


class TestTheFigures:
    def test_of_an_asset_that_never_failed_have_no_means(self) -> None:
        seen = figures()
        assert (seen.mtbf_hours, seen.mttr_hours, seen.availability) == (None, None, 1.0)
        assert (seen.failures, seen.observed_hours, seen.down_hours) == (0, HOURS, 0)

    def test_are_up_time_by_failures_and_down_time_by_restorations(self) -> None:
        seen = figures(failure(100, 110), failure(200, 230))
        assert (seen.mtbf_hours, seen.mttr_hours) == ((HOURS - 40) / 2, 20)
        assert seen.availability == pytest.approx((HOURS - 40) / HOURS)

    def test_count_an_open_failure_and_its_down_time_but_no_restoration(self) -> None:
        seen = figures(failure(300, None))
        assert (seen.failures, seen.open_failures, seen.restored_failures) == (1, 1, 0)
        assert (seen.mtbf_hours, seen.mttr_hours, seen.down_hours) == (300, None, 100)

    def test_take_what_was_restored_after_the_period_as_open_at_its_end(self) -> None:
        seen = figures(failure(390, 500))
        assert (seen.open_failures, seen.down_hours, seen.mttr_hours) == (1, 10, None)

    def test_take_the_rest_of_an_earlier_failure_as_down_time_only(self) -> None:
        seen = figures(failure(-50, 20))
        assert (seen.failures, seen.down_hours, seen.mtbf_hours) == (0, 20, None)

    def test_begin_with_the_installation(self) -> None:
        seen = figures(failure(50, 60), failure(300, 310), installed=200)
        assert (seen.observed_hours, seen.failures, seen.down_hours) == (200, 1, 10)
        assert figures(installed=HOURS + 1).availability is None

    def test_of_an_asset_that_was_down_all_the_time_are_zero(self) -> None:
        seen = figures(failure(0, None))
        assert (seen.availability, seen.mtbf_hours) == (0.0, 0.0)

    @given(failures=st.lists(FAILURES, max_size=8), installed=st.none() | st.integers(-10, HOURS + 10))
    def test_equal_a_count_hour_by_hour(self, failures: list[Failure], installed: int | None) -> None:
        first = max(0, installed or 0)
        hours = range(first, HOURS)
        down = sum(
            any(f.started_at <= hour(n) and (f.restored_at is None or f.restored_at > hour(n)) for f in failures)
            for n in hours
        )
        begun = [f for f in failures if any(f.started_at == hour(n) for n in hours)]
        over = [f.restored_at - f.started_at for f in begun if f.restored_at is not None and f.restored_at <= END]
        seen = figures(*failures, installed=installed)
        assert seen.down_hours == down
        assert (seen.failures, seen.restored_failures) == (len(begun), len(over))
        assert seen.mtbf_hours == (pytest.approx((len(hours) - down) / len(begun)) if begun else None)
        mean = sum(over, timedelta()) / timedelta(hours=1) / len(over) if over else None
        assert seen.mttr_hours == (None if mean is None else pytest.approx(mean))
        assert seen.availability == (pytest.approx(1 - down / len(hours)) if hours else None)

    @given(each=st.lists(st.lists(FAILURES, max_size=4), min_size=1, max_size=4))
    def test_of_many_are_those_of_all_their_time(self, each: list[list[Failure]]) -> None:
        seen = [observe(failures, period_from=BEGIN, period_to=END) for failures in each]
        together, alone = summarize(seen), [summarize([one]) for one in seen]
        assert together.observed_hours == HOURS * len(each)
        assert together.down_hours == pytest.approx(sum(one.down_hours for one in alone))
        assert together.failures == sum(one.failures for one in alone)


class TestOverHttp:
    async def test_an_assets_figures_come_from_its_faults_and_outages(self, erna: httpx.AsyncClient) -> None:
        now = datetime.now(UTC)
        asset_id = await add(erna, customers_served=10)
        start = now - timedelta(hours=100)
        opened = await report(erna, asset_id, started_at=start.isoformat())
        steps = [{"restored_at": (start + timedelta(hours=5)).isoformat(), "customers_restored": 10}]
        await erna.patch(f"/api/v1/pm/incidents/{opened['incident_id']}", json={"steps": steps})
        later = (now - timedelta(hours=10)).isoformat()
        await report(erna, asset_id, fault_type="degradation", started_at=later)
        wrong = await report(erna, asset_id, fault_type="fault", started_at=later)
        await erna.post(f"/api/v1/tickets/{wrong['ticket_id']}/cancel", json={"reason": "Reported twice"})
        asked = {"from": (now - timedelta(hours=200)).isoformat(), "to": now.isoformat()}
        answer = await erna.get(f"/api/v1/pm/assets/{asset_id}/reliability", params=asked)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert (told["figures"]["failures"], told["degradations"]) == (1, 1)
        assert told["figures"]["mttr_hours"] == 5
        assert told["figures"]["mtbf_hours"] == pytest.approx(195)
        assert told["figures"]["availability"] == pytest.approx(195 / 200)

    async def test_a_fault_is_over_when_its_ticket_is_closed_and_not_when_it_is_reopened(
        self, erna: httpx.AsyncClient
    ) -> None:
        asset_id = await add(erna)
        opened = await report(erna, asset_id, fault_type="fault")
        moved = f"/api/v1/tickets/{opened['ticket_id']}"
        for status in ("Assigned", "In_Progress", "Closed"):
            await erna.patch(f"{moved}/status", json={"new_status": status})
        path = f"/api/v1/pm/assets/{asset_id}/reliability"
        closed = (await erna.get(path)).json()["figures"]
        assert (closed["failures"], closed["open_failures"]) == (1, 0)
        await erna.post(f"{moved}/reopen", json={"reason": "It came back"})
        await self._until_open(erna, path)

    async def _until_open(self, client: httpx.AsyncClient, path: str) -> None:
        async with asyncio.timeout(30):
            while (await client.get(path)).json()["figures"]["open_failures"] != 1:
                await asyncio.sleep(0.02)

    async def test_a_type_has_the_figures_of_all_its_assets_at_the_site(self, served: Served) -> None:
        admin = await served.client()
        failing = await add(admin, site="south", asset_type="valve")
        await add(admin, site="south", asset_type="valve")
        await add(admin, site="south", asset_type="valve", status="planned")
        opened = await report(admin, failing, fault_type="fault")
        sql = "update pm.incident set started_at = started_at - interval '10 hours', restored_at = started_at "
        await execute(f"{sql} where ticket_id = $1", opened["ticket_id"])
        asked = {"site": "south", "asset_type": "valve"}
        (told,) = (await admin.get("/api/v1/pm/reliability", params=asked)).json()["types"]
        assert (told["asset_type"], told["assets"], told["figures"]["failures"]) == ("valve", 2, 1)
        assert told["figures"]["observed_hours"] == pytest.approx(2 * 365 * 24)
        assert told["figures"]["mttr_hours"] == pytest.approx(10)

    @pytest.mark.parametrize(
        "asked",
        [
            {"from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
            {"from": "2999-01-01T00:00:00Z"},
            {"from": "1900-01-01T00:00:00Z"},
            {"from": "2026-01-01T00:00:00"},
            {"to": "0001-01-01T00:00:00Z"},
        ],
    )
    async def test_what_is_no_period_is_refused(self, erna: httpx.AsyncClient, asked: dict[str, str]) -> None:
        for path in ("/api/v1/pm/reliability", "/api/v1/pm/failure-statistics"):
            answer = await erna.get(path, params=asked)
            assert answer.status_code == 400, (asked, answer.text)

    async def test_of_another_sites_asset_nothing_is_told(self, served: Served, erna: httpx.AsyncClient) -> None:
        foreign = await add(await served.client(), site="south")
        assert (await erna.get(f"/api/v1/pm/assets/{foreign}/reliability")).status_code == 404
