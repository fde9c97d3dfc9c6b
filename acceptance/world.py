"""A small utility to work with: a site, some assets, the ServiceNow-compatible simulator and a route to it."""

import asyncio
import base64
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

from acceptance.api import Api, RemoteControl
from acceptance.json_process import JsonProcess
from acceptance.processes import Busbar, Installation
from acceptance.rabbitmq import RUNNER
from acceptance.runner import runner

ASSETS = 40
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes....").decode()


class World:
    """The simulator beside an installation, and what is expected of both together."""

    def __init__(self, installed: Installation, ready: dict[str, Any]) -> None:
        self.installed = installed
        self.remote = RemoteControl(ready["url"])
        self._ready = ready

    async def furnish(self, api: Api, *, tls: bool = False, modules: Sequence[str] = ("pm",)) -> None:
        """Make the site, its assets, the endpoint (reached over TLS if asked) and the published route."""
        address = {"base_url": self._ready["url"]}
        if tls:
            address = {"base_url": self._ready["tls_url"], "ca_file": self._ready["ca_file"]}
        await api.post("/api/v1/sites", {"site_id": "north", "name": "Depot North", "modules": [*modules]})
        for n in range(ASSETS):
            asset = {"asset_id": f"TRF-{n}", "asset_type": "transformer", "name": f"Transformer {n}", "site": "north"}
            await api.post("/api/v1/pm/assets", asset | {"customers_served": 10 * n})
        await api.post(
            "/api/v1/endpoints",
            {
                "endpoint_id": "service-desk",
                "connector": "itsm",
                "name": "Service desk",
                "runner": RUNNER,
                "settings": address | {"username": self._ready["username"], "timeout_s": 5},
                "secrets": {"password": self._ready["password"], "webhook_secret": WEBHOOK_SECRET},
            },
        )
        route = {"route_id": "pm-to-desk", "name": "PM to the service desk", "pattern": ["PM_*"]}
        await api.post("/api/v1/routes", route | {"endpoint_id": "service-desk"})
        await api.post("/api/v1/routes/pm-to-desk/publish")

    async def listen_to(self, busbar: Busbar) -> None:
        """Have the simulator tell this Busbar what its users change."""
        address = f"{busbar.url}/api/v1/inbound/service-desk"
        await self.remote.ask("POST", "webhook", {"url": address, "secret": WEBHOOK_SECRET})

    async def records(self, ticket_id: str) -> list[dict[str, Any]]:
        """The simulator's incidents that carry the ticket's id."""
        answer = await self.remote.ask("GET", f"records?correlation_id={ticket_id}")
        found: list[dict[str, Any]] = answer["records"]
        return found

    async def created_at_remote(self) -> Counter[str]:
        """How often each ticket was created at the simulator, by its effect log."""
        counted: Counter[str] = Counter()
        after = 0
        while True:
            answer = await self.remote.ask("GET", f"effects?method=POST&table=incident&after_n={after}")
            counted.update(effect["correlation_id"] for effect in answer["effects"])
            if answer["total"] == len(answer["effects"]):
                return counted
            after = answer["effects"][-1]["n"]

    async def check_each_once(self, acknowledged: Iterable[str]) -> int:
        """Every acknowledged ticket is stored, and every stored one exists once everywhere; returns how many there are.

        Once means: one opening in the audit trail, one event of its opening, one delivery of that, one remote record.
        """
        stored = await self.installed.query(
            """select t.ticket_id,
                (select count(*) from core.audit a where a.object_kind = 'ticket' and a.object_id = t.ticket_id
                    and a.action = 'ticket.open') as openings,
                (select count(*) from core.event e where e.subject = t.ticket_id
                    and e.event_type = 'PM_TICKET_CREATED') as events,
                (select count(*) from core.delivery d join core.event e using (event_id) where e.subject = t.ticket_id
                    and e.event_type = 'PM_TICKET_CREATED' and d.endpoint_id = 'service-desk'
                    and d.state = 'delivered') as deliveries
            from core.ticket t"""
        )
        ids = {row["ticket_id"] for row in stored}
        lost = set(acknowledged) - ids
        assert not lost, f"{len(lost)} acknowledged tickets are lost, for example {sorted(lost)[:3]}"
        wrong = [dict(row) for row in stored if (row["openings"], row["events"], row["deliveries"]) != (1, 1, 1)]
        assert not wrong, f"{len(wrong)} tickets are not there once, for example {wrong[:3]}"
        created = await self.created_at_remote()
        doubled = {ticket: count for ticket, count in created.items() if count > 1}
        assert not doubled, f"{len(doubled)} tickets were created more than once at the remote: {doubled}"
        assert set(created) == ids, f"remote and local differ: {len(created)} and {len(ids)}"
        return len(ids)


@contextlib.asynccontextmanager
async def world(installed: Installation) -> AsyncIterator[World]:
    """A running simulator, in a process of its own that outlives any Busbar."""
    effects = Path(installed.folder) / "effects.jsonl"
    process = JsonProcess("-m", "busbar_itsm.simulator", "--port", "0", "--tls-port", "0", "--state-file", str(effects))
    try:
        ready = await asyncio.to_thread(process.read)
        async with runner(
            installed,
            ITSM_URL=ready["url"],
            ITSM_ENDPOINT="service-desk",
            ITSM_USERNAME=ready["username"],
            ITSM_PASSWORD=ready["password"],
        ):
            yield World(installed, ready)
    finally:
        process.terminate()


def incident(n: int) -> dict[str, Any]:
    """The n-th report."""
    kinds = ("outage", "fault", "degradation")
    return {
        "asset_id": f"TRF-{n % ASSETS}",
        "fault_type": kinds[n % 3],
        "severity": f"P{n % 4 + 1}",
        "description": f"Report {n}",
    }
