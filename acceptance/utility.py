"""A whole utility: a site with every module, people of each role, and the simulators of ERP and CRM beside it."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from acceptance.api import Api, RemoteControl
from acceptance.json_process import JsonProcess
from acceptance.processes import PASSWORD, Busbar, Installation, free_port
from acceptance.rabbitmq import RUNNER
from acceptance.runner import runner

SITE = "north"
MODULES = ("pm", "mm", "fi")
COST_CENTER = "CC-100"
BUDGET = "1000000.00"
PRICE = "25.00"
"""Of one fuse."""
HOURS, RATE = "2.5", "60.00"
LABOUR_COST = "150.00"
"""What `HOURS` at `RATE` cost."""
PEOPLE = {
    "maintenance.engineer": "Maintenance_Engineer",
    "store.manager": "Store_Manager",
    "finance.officer": "Finance_Officer",
}
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes....").decode()


class RemoteSystem:
    """A simulator as a process of its own, which can be killed, and comes back at its address as it was."""

    def __init__(self, kind: str, folder: Path, *credentials: str) -> None:
        self.kind = kind
        self._arguments = (
            *("-m", f"busbar_{kind}.simulator", "--port", str(free_port()), "--tls-port", "0"),
            *("--state-file", str(folder / f"{kind}.jsonl"), *credentials),
        )
        self.start()

    def start(self) -> None:
        """Start it; returns when it listens."""
        self._process = JsonProcess(*self._arguments)
        self.ready = self._process.read()
        self.control = RemoteControl(self.ready["url"])

    def kill(self) -> None:
        """kill -9."""
        self._process.process.kill()
        self._process.process.wait()

    def stop(self) -> None:
        """SIGTERM, and wait."""
        self._process.terminate()

    async def effects(self, **wanted: str) -> list[dict[str, Any]]:
        """What was written there, in order."""
        asked = "&".join(f"{name}={value}" for name, value in wanted.items())
        answer = await self.control.ask("GET", f"effects?{asked}")
        found: list[dict[str, Any]] = answer["effects"]
        assert answer["total"] == len(found), "more effects than one answer holds"
        return found


class Utility:
    """The simulators beside an installation, and what belongs to one case from incident to cost."""

    def __init__(self, installed: Installation, erp: RemoteSystem, crm: RemoteSystem) -> None:
        self.installed, self.erp, self.crm = installed, erp, crm

    async def furnish(self, api: Api, *, has_site: bool = False) -> None:
        """Make site (unless there is one), people, cost center, plan, endpoints and published routes."""
        if not has_site:
            await api.post("/api/v1/sites", {"site_id": SITE, "name": "Depot North", "modules": [*MODULES]})
        for username, role in PEOPLE.items():
            person = {"username": username, "display_name": username, "password": PASSWORD, "roles": [role]}
            await api.post("/api/v1/users", person | {"sites": [SITE]})
        center = {"cost_center_id": COST_CENTER, "name": "Network", "budget_amount": BUDGET, "site": SITE}
        center |= {"fiscal_year": datetime.now(UTC).year, "responsible_manager": "Anna Berg", "is_default": True}
        await api.post("/api/v1/fi/cost-centers", center)
        erp, crm = self.erp.ready, self.crm.ready
        system = {"base_url": erp["url"], "username": erp["username"], "plant": "1010", "purchasing_group": "001"}
        system |= {"company_code": "1010", "controlling_area": "A000", "default_storage_location": "0001"}
        system |= {"default_cost_center": COST_CENTER, "default_material_group": "L001", "timeout_s": 3, "poll_s": 0}
        await self._connect(api, "erp", system, {"password": erp["password"]}, "MM_*")
        organization = {"base_url": crm["url"], "client_id": crm["client_id"], "username": crm["username"]}
        await self._connect(
            api, "crm", organization | {"timeout_s": 3}, {"client_secret": crm["client_secret"]}, "FI_*"
        )

    async def _connect(
        self, api: Api, kind: str, settings: dict[str, Any], secrets: dict[str, str], pattern: str
    ) -> None:
        endpoint = {"endpoint_id": kind, "connector": kind, "name": kind, "runner": RUNNER, "settings": settings}
        secrets = secrets | {"webhook_secret": WEBHOOK_SECRET}
        await api.post("/api/v1/endpoints", endpoint | {"secrets": secrets})
        route = {"route_id": f"to-{kind}", "name": f"To {kind}", "pattern": [pattern], "endpoint_id": kind}
        # A remote that is killed again and again must not use the attempts up.
        await api.post("/api/v1/routes", route | {"attempts_max": 100})
        await api.post(f"/api/v1/routes/to-{kind}/publish")

    async def listen_to(self, busbar: Busbar) -> None:
        """Have the simulators tell this Busbar what their users change."""
        for remote in (self.erp, self.crm):
            address = f"{busbar.url}/api/v1/inbound/{remote.kind}"
            await remote.control.ask("POST", "webhook", {"url": address, "secret": WEBHOOK_SECRET})


async def add_case(api: Api, name: str, *, quantity: str = "10", level: str = "10") -> None:
    """An asset, its fuse in stock just at the reorder level, and the plan that mends it when it fails."""
    asset = {"asset_id": f"TRF-{name}", "asset_type": "transformer", "name": f"Transformer {name}", "site": SITE}
    await api.post("/api/v1/pm/assets", asset | {"customers_served": 10})
    material = {"material_id": f"FUSE-{name}", "description": f"Fuse link {name}", "unit_of_measure": "EA"}
    material |= {"quantity": quantity, "reorder_level": level, "unit_price": PRICE, "cost_center_id": COST_CENTER}
    await api.post("/api/v1/mm/materials", material | {"storage_location": "0001", "site": SITE})
    plan = {
        "name": f"Replace the fuse of {name}",
        "asset_id": f"TRF-{name}",
        "trigger": {"kind": "incident", "fault_types": ["fault"]},
        "template": {
            "order_type": "corrective",
            "description": "Replace the fuse",
            "labour": [{"description": "Fitter", "hours": HOURS, "hourly_rate": RATE}],
            "components": [{"material_id": f"FUSE-{name}", "quantity": "1"}],
        },
    }
    await api.post("/api/v1/pm/maintenance-plans", plan)


@contextlib.asynccontextmanager
async def utility(installed: Installation) -> AsyncIterator[Utility]:
    """The simulators, in processes of their own that outlive any Busbar."""
    erp = await asyncio.to_thread(RemoteSystem, "erp", installed.folder, "--password", PASSWORD)
    crm = await asyncio.to_thread(
        RemoteSystem, "crm", installed.folder, "--client-id", "busbar", "--client-secret", PASSWORD
    )
    try:
        async with runner(
            installed,
            ERP_URL=erp.ready["url"],
            ERP_USERNAME=erp.ready["username"],
            ERP_PASSWORD=erp.ready["password"],
            CRM_URL=crm.ready["url"],
            CRM_CLIENT_ID=crm.ready["client_id"],
            CRM_CLIENT_SECRET=crm.ready["client_secret"],
        ):
            yield Utility(installed, erp, crm)
    finally:
        erp.stop()
        crm.stop()
