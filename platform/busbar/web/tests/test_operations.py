"""The application of a process that does not serve the API: three routes, for whoever runs it."""

import asyncio

import httpx
import pytest

from busbar.observability.health import Health, Lifecycle
from busbar.web.operations import operations_app


def client_of(health: Health) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(operations_app(health))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://worker.test")


class TestOperationsApp:
    async def test_tells_health_and_metrics(self) -> None:
        async with client_of(Health()) as client:
            live, ready, metrics = await asyncio.gather(*map(client.get, ("/health/live", "/health/ready", "/metrics")))
        assert (live.json()["status"], ready.json()["status"]) == ("ok", "ok")
        assert metrics.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "\nerror_rate " in metrics.text

    @pytest.mark.parametrize("path", ["/", "/api/v1/tickets", "/openapi", "/.well-known/jwks.json"])
    async def test_has_nothing_else(self, path: str) -> None:
        async with client_of(Health()) as client:
            answer = await client.get(path)
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["X-Correlation-ID"]

    async def test_says_that_a_stopping_process_is_not_ready_and_still_shows_its_metrics(self) -> None:
        lifecycle = Lifecycle()
        lifecycle.drain()
        async with client_of(Health(lifecycle)) as client:
            assert (await client.get("/health/ready")).status_code == 503
            lifecycle.stop()
            assert (await client.get("/metrics")).status_code == 200
