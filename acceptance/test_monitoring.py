"""Debian's Prometheus on a platform, a worker and RabbitMQ under a little load: every query returns data."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from acceptance.api import Api
from acceptance.processes import Busbar, Installation, free_port, installation
from acceptance.prometheus import Prometheus, prometheus
from acceptance.promql import as_number, panels, rules
from acceptance.utility import COST_CENTER, Utility, add_case, utility
from busbar.testing.broker import TestBroker, broker

CASES = 6
DATA_S_MAX = 60.0
FIXTURES = Path(__file__).parent / "fixtures"
RATE_INTERVAL = "30s"
"""What Grafana would put in for `$__rate_interval`, in proportion to the shorter interval between scrapes."""


@contextlib.asynccontextmanager
async def neighbours() -> AsyncIterator[dict[str, list[int]]]:
    """What Camel told once, and a Kong that has nothing to tell, as targets to scrape."""
    recorded = (FIXTURES / "camel-metrics.txt").read_text("utf-8")

    async def camel(_: web.Request) -> web.Response:
        return web.Response(text=recorded)

    async def kong(_: web.Request) -> web.Response:
        return web.Response(text="# nothing\n")

    app = web.Application()
    app.add_routes([web.get("/observe/metrics", camel), web.get("/metrics", kong)])
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield {"camel": [port], "kong": [port]}
    finally:
        await runner.cleanup()


async def report(api: Api, n: int) -> str:
    """Report an incident; returns its ticket."""
    incident = {"asset_id": f"TRF-{n}", "fault_type": "fault", "severity": "P3", "description": "Blown fuse"}
    reported = await api.post("/api/v1/pm/incidents", incident)
    return str(reported["ticket_id"])


async def work(api: Api, n: int) -> None:
    """What the modules are for: an incident with its order, a stock issue with its reorder, and what both cost."""
    ticket_id = await report(api, n)
    ticket = f"/api/v1/tickets/{ticket_id}"
    await api.patch(f"{ticket}/status", {"new_status": "Assigned"})
    issue = {"material_id": f"FUSE-{n}", "quantity_change": "-1", "transaction_type": "issue"}
    await api.post("/api/v1/mm/stock-transactions", issue | {"ticket_id": ticket_id})
    cost = {"ticket_id": ticket_id, "amount": "12.50", "cost_type": "OPEX"}
    await api.post("/api/v1/fi/cost-entries", cost | {"cost_center_id": COST_CENTER})
    for _ in range(5):
        await api.get(ticket)
    await api.send("GET", "/api/v1/tickets/none")


async def furnish(around: Utility, api: Api) -> None:
    """The utility, with an ERP system that is polled, and a CRM system that Camel is to deliver to."""
    await around.furnish(api)
    erp = await api.get("/api/v1/endpoints/erp")
    await api.patch("/api/v1/endpoints/erp", {"runner": "busbar", "settings": erp["settings"] | {"poll_s": 2}})
    await api.patch("/api/v1/endpoints/crm", {"runner": "camel"})
    for n in range(CASES):
        await add_case(api, str(n))


async def until(ask: Callable[[], Awaitable[bool]]) -> bool:
    """Ask until the answer is yes, or for as long as data may take; what the last answer was."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DATA_S_MAX):
            while not await ask():
                await asyncio.sleep(0.5)
            return True
    return False


async def told(seen: Prometheus, *alerts: str) -> bool:
    """Whether the conditions of all these alerts are met now; they fire once that has lasted."""
    states = {rule["name"]: rule.get("state") for rule in await seen.rules()}
    return all(states[alert] in ("pending", "firing") for alert in alerts)


class Running:
    """Everything that is scraped, and Prometheus."""

    def __init__(self, seen: Prometheus, worker: Busbar, api: Api) -> None:
        self.seen, self.worker, self.api = seen, worker, api

    async def without_data(self, queries: dict[str, str]) -> dict[str, str]:
        """Those of the queries that return nothing, or nothing but NaN, however long one waits.

        There is work meanwhile: what a worker did at once, before the second scrape, has no rate.
        """
        left = dict(queries)

        async def ask() -> bool:
            for name in list(left):
                if await self.seen.has_numbers(left[name]):
                    del left[name]
            if left:
                await report(self.api, 0)
            return not left

        await until(ask)
        return left


@contextlib.asynccontextmanager
async def running(folder: Path, installed: Installation, around: Utility, rabbit: TestBroker) -> AsyncIterator[Running]:
    worker = await installed.start("worker", AMQP_URL=rabbit.url)
    platform = await installed.start("serve", "--no-work", AMQP_URL=rabbit.url)
    ports = {"busbar-platform": [platform.port], "busbar-worker": [worker.port]}
    ports |= {"rabbitmq": [rabbit.metrics_port], "rabbitmq-queues": [rabbit.metrics_port]}
    async with neighbours() as others, prometheus(folder, ports | others) as seen, Api(platform.url) as api:
        await furnish(around, api)
        # Spread over some scrapes: a rate needs two of them with something in between.
        for n in range(CASES):
            await work(api, n)
            await asyncio.sleep(1)
        yield Running(seen, worker, api)


@pytest.mark.slow
class TestMonitoring:
    async def test_every_query_of_rules_and_dashboards_returns_data(self, tmp_path: Path) -> None:
        async with (
            broker(plugins=["rabbitmq_prometheus"]) as rabbit,
            installation() as installed,
            utility(installed) as around,
            running(tmp_path, installed, around, rabbit) as all_of_it,
        ):
            seen = all_of_it.seen
            assert set((await seen.targets()).values()) == {"up"}

            asked = {f"recording {rule.name}": rule.name for rule in rules("recording")}
            asked |= {f"alert {rule.name}": as_number(rule.expr) for rule in rules("alerts")}
            for panel in panels():
                for n, query in enumerate(panel.queries):
                    name = f"panel {panel.dashboard}: {panel.title}, {n}"
                    asked[name] = query.replace("$__rate_interval", RATE_INTERVAL)
            assert len(asked) > 100
            assert await all_of_it.without_data(asked) == {}

            found = await seen.rules()
            assert len(found) == len(rules("recording")) + len(rules("alerts"))
            assert {rule["name"]: rule.get("lastError") for rule in found if rule["health"] != "ok"} == {}
            assert [rule["name"] for rule in found if rule.get("state") == "firing"] == []

            # What no unit test of a rule shows: that what is gone is seen to be gone.
            await rabbit.kill()
            assert await until(lambda: told(seen, "RabbitmqDown", "BusbarBrokerUnreachable"))
            await all_of_it.worker.kill()
            assert await until(lambda: told(seen, "BusbarWorkerAbsent", "BusbarProcessDown"))
