"""The wrapper around the application: every response has its correlation id, every request its log line and count."""

import asyncio

import httpx
import pytest

from busbar.observability.tests.conftest import Lines
from busbar.web.tests.small_app import FAULTS, SmallApp

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

REQUESTS = [
    ("GET", "/ping", 200),
    ("GET", "/no/such/path", 404),
    ("DELETE", "/ping", 405),
    ("BREW", "/ping", 405),
    ("OPTIONS", "/ping", 204),
    ("GET", "/fault/crash", 500),
    ("GET", "/fault/misuse", 500),
    ("POST", "/assets", 400),
    ("GET", "/assets?limit=0", 400),
    ("GET", "/ping?x=%00", 400),
    ("GET", "/health/live", 200),
    ("GET", "/health/ready", 200),
    ("GET", "/metrics", 200),
    ("GET", "/schema/openapi.json", 200),
]


class TestEveryResponse:
    @pytest.mark.parametrize(("method", "path", "status"), REQUESTS)
    async def test_has_the_correlation_id_that_was_sent(self, client: httpx.AsyncClient, method, path, status) -> None:
        response = await client.request(method, path, headers={"X-Correlation-ID": "order-17"})
        assert response.status_code == status
        assert response.headers.get_list("X-Correlation-ID") == ["order-17"]

    @pytest.mark.parametrize(("method", "path", "status"), REQUESTS)
    async def test_has_a_new_one_when_none_was_sent(self, client: httpx.AsyncClient, method, path, status) -> None:
        first, second = [await client.request(method, path) for _ in range(2)]
        assert first.headers["X-Correlation-ID"] != second.headers["X-Correlation-ID"]

    @pytest.mark.parametrize("sent", ["two words", "x" * 129, "<b>"])
    async def test_has_a_new_one_when_the_sent_one_is_unfit(self, client: httpx.AsyncClient, sent: str) -> None:
        response = await client.get("/ping", headers={"X-Correlation-ID": sent})
        assert response.headers["X-Correlation-ID"] != sent
        assert response.json()["correlation_id"] == response.headers["X-Correlation-ID"]

    @pytest.mark.parametrize(("method", "path", "status"), [each for each in REQUESTS if each[2] >= 400])
    async def test_that_refuses_is_a_problem_document(self, client: httpx.AsyncClient, method, path, status) -> None:
        response = await client.request(method, path)
        assert response.headers["Content-Type"] == "application/problem+json"
        problem = response.json()
        assert {"type", "title", "status", "detail", "instance", "code", "correlation_id", "errors"} <= problem.keys()
        assert problem["status"] == status
        assert problem["instance"] == path.partition("?")[0]
        assert problem["correlation_id"] == response.headers["X-Correlation-ID"]

    async def test_that_refuses_the_method_says_which_are_taken(self, client: httpx.AsyncClient) -> None:
        response = await client.delete("/assets")
        assert response.status_code == 405
        assert {"GET", "POST"} <= {each.strip() for each in response.headers["Allow"].split(",")}


class TestTraceContext:
    async def test_is_passed_on_when_valid(self, client: httpx.AsyncClient) -> None:
        response = await client.get("/ping", headers={"traceparent": TRACE})
        assert response.json()["traceparent"] == TRACE

    async def test_begins_here_when_not(self, client: httpx.AsyncClient) -> None:
        response = await client.get("/ping", headers={"traceparent": "00-zz"})
        assert len(response.json()["traceparent"]) == len(TRACE)


class TestLogOfRequests:
    @pytest.mark.parametrize(("method", "path", "status"), REQUESTS)
    async def test_has_one_line_for_each(
        self, log_lines: Lines, client: httpx.AsyncClient, method, path, status
    ) -> None:
        await client.request(method, path, headers={"X-Correlation-ID": "order-17"})
        (line,) = [line for line in log_lines() if line["event"] == "request"]
        assert line["correlation_id"] == "order-17"
        assert (line["method"], line["path"], line["status"]) == (method, path.partition("?")[0], status)
        assert line["log_level"] == ("ERROR" if status == 500 else "INFO")
        assert line["duration_ms"] >= 0

    async def test_shows_the_cause_of_a_crash_that_the_caller_does_not_see(
        self, log_lines: Lines, client: httpx.AsyncClient
    ) -> None:
        response = await client.get("/fault/crash", headers={"X-Correlation-ID": "order-17"})
        assert "secret internals" not in response.text
        (line,) = [line for line in log_lines() if line["event"] == "request_failed"]
        assert "RuntimeError: secret internals" in line["exception"]
        assert line["correlation_id"] == "order-17"


class TestMetricsOfRequests:
    async def test_are_counted_by_template_not_by_path(self, small_app: SmallApp, client: httpx.AsyncClient) -> None:
        for asset_id in ("a", "b", "c"):
            await client.get(f"/assets/{asset_id}")
        await client.get("/no/such/path/1")
        await client.get("/no/such/path/2")
        counted = {
            (sample.labels["route"], sample.labels["status"]): sample.value
            for family in small_app.metrics.collect()
            if family.name == "request_count"
            for sample in family.samples
        }
        assert counted == {("/assets/{asset_id}", "200"): 3, ("unmatched", "404"): 2}


class TestOverload:
    async def test_is_answered_with_503_and_a_time_to_come_back(self) -> None:
        small_app = SmallApp(requests_max=1)
        transport = httpx.ASGITransport(small_app.edge)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://busbar.test") as client:
            first = asyncio.create_task(client.get("/held"))
            await small_app.gates.inside.wait()
            refused = await client.get("/ping")
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert refused.json()["code"] == "SYS_002"
            assert refused.headers["X-Correlation-ID"]
            assert (await client.get("/health/live")).status_code == 200
            assert (await client.get("/metrics")).status_code == 200
            small_app.gates.go_on.set()
            assert (await first).status_code == 200
            assert (await client.get("/ping")).status_code == 200

    async def test_gives_the_place_back_when_the_caller_leaves(self, small_app: SmallApp) -> None:
        transport = httpx.ASGITransport(small_app.edge)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://busbar.test") as client:
            task = asyncio.create_task(client.get("/held"))
            await small_app.gates.inside.wait()
            assert small_app.edge.requests_in_flight == 1
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert small_app.edge.requests_in_flight == 0


class TestPhases:
    async def test_a_draining_process_is_not_ready_yet_answers_and_closes_connections(
        self, small_app: SmallApp, client: httpx.AsyncClient
    ) -> None:
        small_app.health.lifecycle.drain()
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["phase"]) == (503, "draining")
        assert ready.headers["Content-Type"] == "application/problem+json"
        answered = await client.get("/ping")
        assert (answered.status_code, answered.headers["Connection"]) == (200, "close")

    async def test_a_stopped_process_refuses(self, small_app: SmallApp, client: httpx.AsyncClient) -> None:
        small_app.health.lifecycle.stop()
        refused = await client.get("/ping")
        assert refused.status_code == 503
        assert "Retry-After" in refused.headers
        assert (await client.get("/health/live")).status_code == 200

    async def test_a_failing_check_is_named_without_its_cause(
        self, small_app: SmallApp, client: httpx.AsyncClient
    ) -> None:
        async def database() -> str | None:
            raise ConnectionRefusedError("db:5432")

        small_app.health.add_readiness_check("database", database)
        response = await client.get("/health/ready")
        assert response.status_code == 503
        assert response.json()["checks"][0]["name"] == "database"
        assert "5432" not in response.text


class TestFaultsUnderneath:
    @pytest.mark.parametrize(
        ("kind", "status", "code"),
        [
            ("crash", 500, "SYS_001"),
            ("conflict", 409, "RES_002"),
            ("transition", 422, "BUS_001"),
            ("rule", 422, "BUS_002"),
            ("busy", 429, "SYS_002"),
            ("timeout", 503, "SYS_002"),
            ("refused", 503, "SYS_002"),
            ("duplicate", 409, "RES_002"),
            ("dangling", 409, "RES_002"),
            ("check", 422, "BUS_002"),
            ("out-of-range", 400, "VAL_001"),
            ("argument", 400, "VAL_001"),
            ("statement-timeout", 503, "SYS_002"),
            ("lock-timeout", 503, "SYS_002"),
            ("too-many", 503, "SYS_002"),
            ("deadlock", 503, "SYS_002"),
            ("connection-lost", 503, "SYS_002"),
            ("shutdown", 503, "SYS_002"),
            ("closed", 503, "SYS_002"),
            ("misuse", 500, "SYS_001"),
            ("syntax", 500, "SYS_001"),
        ],
    )
    async def test_are_told_by_code_and_without_internals(
        self, client: httpx.AsyncClient, kind: str, status: int, code: str
    ) -> None:
        response = await client.get(f"/fault/{kind}")
        problem = response.json()
        assert (response.status_code, problem["code"]) == (status, code)
        assert ("Retry-After" in response.headers) == (status in (429, 503))
        if code not in ("BUS_001", "BUS_002", "RES_002") or kind in ("duplicate", "dangling", "check"):
            internals = str(FAULTS[kind])
            assert kind == "busy" or not internals or internals not in response.text
