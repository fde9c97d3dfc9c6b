"""One correlation id from the request to the log line of the delivery, and metrics that tell the truth (SPEC R6)."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from busbar.db import DB, execute, fetch, fetchval
from busbar.errors import Unavailable
from busbar.observability.metrics import gauges
from busbar.testing.app import PASSWORD, Client, RunningApp

REQUIRED = {"timestamp", "service", "log_level", "correlation_id"}
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(app: RunningApp) -> Client:
    return await app.client("Maintenance_Engineer", "a")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def asset_id(client: Client) -> str:
    return str((await client.post("/pm/assets", {"asset_type": "feeder", "name": "Feeder 7"}))["asset_id"])


@pytest.fixture(autouse=True)
def fresh_gauges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings are asked for at each scrape, not kept for five seconds."""
    monkeypatch.setattr(gauges, "_cache_s", 0.0)


def incident(asset_id: str) -> dict[str, Any]:
    return {"asset_id": asset_id, "fault_type": "fault", "severity": "P3", "description": "A bird on the line"}


class TestCorrelationId:
    async def test_of_the_caller_is_on_ticket_event_delivery_trail_and_log(
        self, app: RunningApp, client: Client, asset_id: str
    ) -> None:
        sent = {"X-Correlation-ID": "crew-4:report_17", "traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}
        answer = await client.send("POST", "/pm/incidents", incident(asset_id), headers=sent)
        ticket_id = answer.body["ticket_id"]
        moved = {"X-Correlation-ID": "crew-4:move"}
        await client.patch(f"/tickets/{ticket_id}/status", {"new_status": "Assigned"}, headers=moved)
        await app.quiet()
        admin = await app.client()

        assert answer.headers["X-Correlation-ID"] == "crew-4:report_17"
        assert (await client.get(f"/tickets/{ticket_id}"))["correlation_id"] == "crew-4:report_17"
        created, *later = await client.get(f"/tickets/{ticket_id}/events")
        assert (created["type"], created["correlationid"]) == ("PM_TICKET_CREATED", "crew-4:report_17")
        assert created["traceparent"].split("-")[1] == TRACE_ID
        assert {event["correlationid"] for event in later} == {"crew-4:move"}
        audit = await client.get(f"/tickets/{ticket_id}/audit")
        assert [entry["correlation_id"] for entry in audit] == ["crew-4:report_17", "crew-4:move"]

        delivered = (await admin.get("/deliveries?correlation_id=crew-4:move"))["items"]
        assert {delivery["subscription"] for delivery in delivered} == {
            "pm.incident_follows_ticket",
            "pm.order_follows_ticket",
            "mm.reservations_follow_order",
            "fi.maintenance",
        }
        lines = [line for line in app.log_lines() if line["correlation_id"] == "crew-4:move"]
        told = {line["delivery_id"] for line in lines if line["event"] == "delivery"}
        assert told == {delivery["delivery_id"] for delivery in delivered}
        (request,) = (line for line in lines if line["event"] == "request")
        assert (request["method"], request["route"], request["status"]) == (
            "PATCH",
            "/api/v1/tickets/{ticket_id}/status",
            200,
        )

    async def test_is_made_where_the_caller_sends_none(self, client: Client) -> None:
        first, second = await client.send("GET", "/tickets"), await client.send("GET", "/tickets")
        assert re.fullmatch(r"[0-9a-f-]{36}", first.headers["X-Correlation-ID"])
        assert first.headers["X-Correlation-ID"] != second.headers["X-Correlation-ID"]

    @pytest.mark.parametrize("sent", ["", "x" * 200, "with space", "new\tline", '{"a":1}', "schlüssel"])
    async def test_that_could_break_a_log_is_replaced(self, client: Client, sent: str) -> None:
        answer = await client.send("GET", "/tickets", headers={"X-Correlation-ID": sent})
        assert answer.status == 200
        assert answer.headers["X-Correlation-ID"] != sent

    async def test_is_on_refusals_too(self, app: RunningApp, client: Client) -> None:
        for caller, path in ((app.anonymous, "/tickets"), (client, "/users"), (client, "/tickets/none")):
            answer = await caller.send("GET", path, headers={"X-Correlation-ID": "why-not"})
            assert answer.status in (401, 403, 404)
            assert answer.headers["X-Correlation-ID"] == answer.body["correlation_id"] == "why-not"

    async def test_is_on_every_line_of_the_log(self, app: RunningApp, client: Client) -> None:
        await client.get("/tickets")
        lines = app.log_lines()
        assert len(lines) > 5
        for line in lines:
            assert set(line) >= REQUIRED, line
            assert line["correlation_id"], line
            assert line["log_level"] in {"DEBUG", "INFO", "WARNING", "ERROR"}, line


class Metrics:
    """A scrape, decoded."""

    def __init__(self, text: str) -> None:
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def values(self, name: str, **labels: str) -> Iterator[float]:
        return (
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        )

    def total(self, name: str, **labels: str) -> float:
        return sum(self.values(name, **labels))


async def scrape(app: RunningApp) -> Metrics:
    answer = await app.anonymous.send("GET", "//metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Metrics(answer.content.decode())


class TestMetrics:
    async def test_count_requests_by_method_route_and_status(self, app: RunningApp, client: Client) -> None:
        labels = {"method": "GET", "route": "/api/v1/tickets/{ticket_id}"}
        before = await scrape(app)
        for number in range(3):
            await client.get(f"/tickets/TKT-PM-20260101-000{number}", status=404)
        after = await scrape(app)
        for name in ("request_count_total", "request_latency_seconds_count"):
            assert after.total(name, **labels) - before.total(name, **labels) == 3, name
        assert after.total("request_count_total", status="404", **labels) >= 3
        assert after.total("request_latency_seconds_sum", **labels) > before.total(
            "request_latency_seconds_sum", **labels
        )

    async def test_show_an_error_rate_that_no_callers_mistake_raises(self, app: RunningApp, client: Client) -> None:
        # It looks back a minute, in which other tests of this process may have seen faults on purpose.
        (before,) = (await scrape(app)).values("error_rate")
        for _ in range(20):
            await client.get("/tickets/none", status=404)
        (after,) = (await scrape(app)).values("error_rate")
        assert after == 0.0 if before == 0.0 else after < before

    async def test_count_tickets_as_the_database_does(self, app: RunningApp, client: Client, asset_id: str) -> None:
        opened = [(await client.post("/pm/incidents", incident(asset_id)))["ticket_id"] for _ in range(3)]
        await client.patch(f"/tickets/{opened[0]}/status", {"new_status": "Assigned"})
        await client.post(f"/tickets/{opened[1]}/cancel", {"reason": "false alarm"}, status=200)
        seen = await scrape(app)
        rows = await fetch("select status, count(*) as number from core.ticket where module = 'pm' group by 1")
        counted = {"Closed": 0, "In_Progress": 0, **{row["status"]: row["number"] for row in rows}}
        assert len(counted) == 5
        for status, number in counted.items():
            shown = list(seen.values("ticket_count_by_status", module="pm", status=status))
            assert shown == [number], status

    async def test_count_tickets_near_and_past_their_deadline(
        self, app: RunningApp, client: Client, asset_id: str
    ) -> None:
        near, past, held = [(await client.post("/pm/incidents", incident(asset_id)))["ticket_id"] for _ in range(3)]
        before = await scrape(app)
        await client.post(f"/tickets/{held}/hold", {"reason": "waiting for a part"}, status=200)
        for ticket_id, minutes in ((near, 30), (past, -1), (held, -1)):
            await execute(
                "update core.ticket set sla_deadline = now() + make_interval(mins => $2) where ticket_id = $1",
                ticket_id,
                minutes,
            )
        after = await scrape(app)
        for state in ("at_risk", "breached"):
            assert after.total("sla_at_risk", state=state) - before.total("sla_at_risk", state=state) == 1, state

    async def test_count_deliveries_as_the_ledger_does(self, app: RunningApp, client: Client, asset_id: str) -> None:
        ticket_id = (await client.post("/pm/incidents", incident(asset_id)))["ticket_id"]
        await client.patch(f"/tickets/{ticket_id}/status", {"new_status": "Assigned"})
        await app.quiet()
        total = await fetchval("select count(*) from core.delivery")
        assert total > 0
        seen = await scrape(app)
        async with asyncio.timeout(30):
            # Finished ones are counted anew only after twenty times as long as counting took.
            while seen.total("deliveries_by_state", state="delivered") != total:
                seen = await scrape(app)
        assert seen.total("deliveries_by_state") == total
        assert list(seen.values("outbox_waiting")) == [0]
        assert list(seen.values("outbox_lag_seconds")) == [0]
        assert list(seen.values("dead_letter_age_seconds")) == [0]

    async def test_count_attempts_by_subscription_and_outcome_and_time_what_is_delivered(
        self, app: RunningApp, client: Client, asset_id: str
    ) -> None:
        await app.quiet()
        labels = {"subscription": "fi.maintenance", "endpoint": "", "outcome": "delivered"}
        before = await scrape(app)
        ticket_id = (await client.post("/pm/incidents", incident(asset_id)))["ticket_id"]
        await client.patch(f"/tickets/{ticket_id}/status", {"new_status": "Assigned"})
        await app.quiet()
        after = await scrape(app)
        rows = await fetch(
            "select count(*) as attempts from core.delivery d join core.event using (event_id) "
            "where subject = $1 and subscription = 'fi.maintenance'",
            ticket_id,
        )
        attempts = after.total("busbar_delivery_attempts_total", **labels) - before.total(
            "busbar_delivery_attempts_total", **labels
        )
        assert attempts == rows[0]["attempts"] > 0
        timed = after.total("busbar_delivery_latency_seconds_count", endpoint="")
        assert timed == after.total("busbar_delivery_attempts_total", endpoint="", outcome="delivered")
        assert list(after.values("busbar_worker_running")) == [1]

    async def test_show_the_pools_and_how_often_they_had_nothing_to_give(self, app: RunningApp) -> None:
        seen = await scrape(app)
        for pool in ("requests", "background"):
            used, idle = (seen.total("busbar_pool_connections", pool=pool, state=state) for state in ("used", "idle"))
            assert 0 < used + idle <= seen.total("busbar_pool_connections_max", pool=pool)
        before = seen.total("busbar_pool_refusals_total", pool="requests")
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(int(seen.total("busbar_pool_connections_max", pool="requests"))):
                await stack.enter_async_context(DB.connection())
            with pytest.raises(Unavailable):
                await fetchval("select 1")
        assert (await scrape(app)).total("busbar_pool_refusals_total", pool="requests") == before + 1

    async def test_show_the_breaker_of_every_endpoint(self, app: RunningApp) -> None:
        settings = {"base_url": "http://127.0.0.1:9", "username": "busbar"}
        body = {"endpoint_id": "desk", "connector": "itsm", "name": "Service desk", "settings": settings}
        await (await app.client()).post("/endpoints", body)
        assert list((await scrape(app)).values("breaker_state", endpoint="desk")) == [0]

    async def test_show_that_nothing_is_handed_over_to_camel_before_something_is(self, app: RunningApp) -> None:
        settings = {"base_url": "http://127.0.0.1:9", "username": "busbar"}
        body = {"endpoint_id": "by-camel", "connector": "itsm", "name": "Service desk", "settings": settings}
        await (await app.client()).post("/endpoints", body)
        # The API takes it only from a platform with a broker.
        await execute("update core.endpoint set runner = 'camel' where endpoint_id = 'by-camel'")
        seen = await scrape(app)
        for name in ("busbar_handed_over", "busbar_handed_over_age_seconds"):
            assert list(seen.values(name, endpoint="by-camel")) == [0], name
            assert not list(seen.values(name, endpoint="desk")), name

    async def test_have_everything_that_the_specification_lists(self, app: RunningApp) -> None:
        names = {sample.name for sample in (await scrape(app)).samples}
        for name in (
            "request_count_total",
            "request_latency_seconds_bucket",
            "error_rate",
            "ticket_count_by_status",
            "outbox_lag_seconds",
            "deliveries_by_state",
            "dead_letter_age_seconds",
            "sla_at_risk",
            "process_resident_memory_bytes",
        ):
            assert name in names, name
        assert any("loop_lag" in name for name in names)

    async def test_grow_with_routes_and_never_with_what_callers_invent(self, app: RunningApp, client: Client) -> None:
        async def ask(n: int) -> None:
            await client.send(
                "GET", f"/tickets/TKT-PM-20260101-{n}?text=word{n}", headers={"X-Correlation-ID": f"c{n}"}
            )
            await client.send("GET", f"//nowhere/{n}")
            await client.send(f"BREW{n}", "/tickets")
            await client.send("POST", "/auth/login", {"username": f"nobody-{n}", "password": PASSWORD})

        await ask(0)
        before = len((await scrape(app)).samples)
        for n in range(1, 40):
            await ask(n)
        assert len((await scrape(app)).samples) - before < 40  # one new route and status costs about a dozen

    async def test_have_no_second_series_for_when_each_was_first_counted(self, app: RunningApp) -> None:
        assert [each.name for each in (await scrape(app)).samples if each.name.endswith("_created")] == []

    async def test_come_from_collectors_that_all_answer(self, app: RunningApp) -> None:
        up = {sample.labels["collector"]: sample.value for sample in (await scrape(app)).samples
              if sample.name == "collector_up"}  # fmt: skip
        assert set(up) >= {"ledger", "tickets", "connectors"}
        assert set(up.values()) == {1.0}
