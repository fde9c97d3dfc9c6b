"""One Busbar whose events go out twice: by its own router to one set of simulators, and by Camel to another.

The broker is one of its own: it speaks TLS, which Camel uses, and MQTT, and Camel has only the rights of its own user.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from acceptance.api import Api
from acceptance.camel import Camel, build
from acceptance.processes import PASSWORD, Busbar, Installation, free_port, installation
from acceptance.utility import BUDGET, COST_CENTER, PEOPLE, SITE, RemoteSystem
from busbar.bus.broker_users import VHOST, BrokerUser, camel_user
from busbar.testing.broker import TestBroker
from busbar.testing.broker_ground import Ground

KINDS = {"itsm": "PM_*", "erp": "MM_*", "crm": "FI_*"}
"""Each connector and the events that it is sent."""
RUNNERS = ("busbar", "camel")
ALARM_CHECK_MS = 200
ALARM_USER = "sensors"
REDELIVERIES = 2
HTTP_TIMEOUT_S = 4
"""Long enough for a busy machine."""
CREDENTIALS = {"itsm": ("--password", PASSWORD), "erp": ("--password", PASSWORD), "crm": ("--client-secret", PASSWORD)}
OF_THE_ENDPOINT = {"PurReqnExternalReference", "ReferenceDocument"}
"""Short references are made of the endpoint's id too, so they differ."""
OF_THE_REMOTE = {"ParentId", "MaterialDocument", "PurchaseRequisition"}
"""Numbers that a remote gives by itself."""


class BothWays:
    """The processes, and what there is of each thing once for each runner."""

    def __init__(
        self, installed: Installation, broker: TestBroker, mqtt_port: int, remotes: dict[tuple[str, str], RemoteSystem]
    ) -> None:
        self.installed, self.broker, self._remotes = installed, broker, remotes
        self.alarms = installed.folder / "alarms"
        self.alarms.mkdir()
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        itsm, erp, crm = (self.remote(kind).ready for kind in KINDS)
        self.camel = Camel(
            installed.folder,
            AMQP_URL=f"amqps://camel:{quote(PASSWORD)}@localhost:{broker.tls_port}/{VHOST}",
            AMQP_CA_FILE=str(broker.certificates.ca if broker.certificates else ""),
            ITSM_URL=itsm["url"],
            ITSM_ENDPOINT="itsm-camel",
            # By OAuth, where Busbar's own router uses the password.
            ITSM_CLIENT_ID=itsm["client_id"],
            ITSM_CLIENT_SECRET=itsm["client_secret"],
            ERP_URL=erp["url"],
            ERP_ENDPOINT="erp-camel",
            ERP_USERNAME=erp["username"],
            ERP_PASSWORD=erp["password"],
            CRM_URL=crm["url"],
            CRM_ENDPOINT="crm-camel",
            CRM_CLIENT_ID=crm["client_id"],
            CRM_CLIENT_SECRET=crm["client_secret"],
            API_URL=self.url,
            API_USERNAME="maintenance.engineer",
            API_PASSWORD=PASSWORD,
            ALARM_FOLDER=str(self.alarms),
            ALARM_CHECK_MS=str(ALARM_CHECK_MS),
            MQTT_URL=f"tcp://127.0.0.1:{mqtt_port}",
            MQTT_USERNAME=ALARM_USER,
            MQTT_PASSWORD=PASSWORD,
            HTTP_TIMEOUT_MS=str(1000 * HTTP_TIMEOUT_S),
            REDELIVERIES=str(REDELIVERIES),
            REDELIVERY_DELAY_MS="100",
        )

    def remote(self, kind: str, runner: str = "camel") -> RemoteSystem:
        """The simulator that this runner sends to."""
        return self._remotes[kind, runner]

    async def start(self) -> Busbar:
        """Start Camel and Busbar."""
        starting = asyncio.create_task(self.camel.start())
        busbar = await self.installed.start(port=self._port, AMQP_URL=self.broker.url)
        await starting
        return busbar

    async def furnish(self, api: Api) -> None:
        """Make site, people, assets, cost center, endpoints of both runners and their routes."""
        await api.post("/api/v1/sites", {"site_id": SITE, "name": "Depot North", "modules": ["pm", "mm", "fi"]})
        for username, role in PEOPLE.items():
            person = {"username": username, "display_name": username, "password": PASSWORD, "roles": [role]}
            await api.post("/api/v1/users", person | {"sites": [SITE]})
        center = {"cost_center_id": COST_CENTER, "name": "Network", "budget_amount": BUDGET, "site": SITE}
        center |= {"fiscal_year": 2026, "responsible_manager": "Anna Berg", "is_default": True}
        await api.post("/api/v1/fi/cost-centers", center)
        for n in range(10):
            asset = {"asset_id": f"SUB-{n}", "asset_type": "substation", "name": f"Substation {n}", "site": SITE}
            await api.post("/api/v1/pm/assets", asset | {"customers_served": 100})
        for kind, pattern in KINDS.items():
            for runner in RUNNERS:
                await self._connect(api, kind, runner, pattern)

    async def _connect(self, api: Api, kind: str, runner: str, pattern: str) -> None:
        name, ready = f"{kind}-{runner}", self.remote(kind, runner).ready
        settings: dict[str, Any] = {"base_url": ready["url"], "username": ready["username"]}
        secrets = {"password": PASSWORD}
        if kind == "erp":
            settings |= {"plant": "1010", "purchasing_group": "001", "company_code": "1010", "poll_s": 0}
            settings |= {"controlling_area": "A000", "default_storage_location": "0001"}
            settings |= {"default_cost_center": COST_CENTER, "default_material_group": "L001"}
        if kind == "crm":
            settings |= {"client_id": ready["client_id"]}
            secrets = {"client_secret": PASSWORD}
        endpoint = {"endpoint_id": name, "connector": kind, "name": name, "runner": runner}
        await api.post("/api/v1/endpoints", endpoint | {"settings": settings, "secrets": secrets})
        route = {"route_id": f"to-{name}", "name": f"To {name}", "pattern": [pattern], "endpoint_id": name}
        await api.post("/api/v1/routes", route)
        await api.post(f"/api/v1/routes/to-{name}/publish")

    async def effects(self, kind: str, runner: str) -> dict[str, list[Any]]:
        """What was written at a remote, in order, by what it is about; without what differs between two remotes."""
        found: dict[str, list[Any]] = {}
        for effect in await self.remote(kind, runner).effects():
            told = {name: effect.get(name) for name in ("method", "table", "object", "entity_set", "function")}
            told["fields"] = _comparable(effect["fields"])
            told["changed"] = sorted(set(effect["changed"]) - OF_THE_ENDPOINT)
            # SAP's documents are one for each thing, so there is an order only of the changes of one.
            about = effect.get("correlation_id") or effect.get("external_id") or effect["entity_set"]
            found.setdefault(f"{about} {effect['request_correlation_id']}", []).append(told)
        return found


def _comparable(value: Any) -> Any:
    if isinstance(value, dict):
        kept = (name for name in value if name not in OF_THE_ENDPOINT | OF_THE_REMOTE)
        return {name: _comparable(value[name]) for name in kept}
    return [_comparable(each) for each in value] if isinstance(value, list) else value


@asynccontextmanager
async def both_ways() -> AsyncIterator[tuple[BothWays, Api]]:
    """All of it, started and furnished, with an administrator's client."""
    async with AsyncExitStack() as stack:
        installed = await stack.enter_async_context(installation())
        wanted = [(kind, runner) for kind in KINDS for runner in RUNNERS]
        # Side by side, for each takes its time.
        (broker, mqtt_port), _, *started = await asyncio.gather(
            stack.enter_async_context(_broker(installed.folder / "broker")),
            asyncio.to_thread(build),
            *(asyncio.to_thread(_simulator, installed.folder, *each) for each in wanted),
        )
        for remote in started:
            stack.callback(remote.stop)
        around = BothWays(installed, broker, mqtt_port, dict(zip(wanted, started, strict=True)))
        stack.push_async_callback(around.camel.stop)
        busbar = await around.start()
        api = await stack.enter_async_context(Api(busbar.url))
        await around.furnish(api)
        yield around, api


@asynccontextmanager
async def _broker(folder: Path) -> AsyncIterator[tuple[TestBroker, int]]:
    """A node, and its port for MQTT."""
    port, own = free_port(), r"^mqtt-subscription-.*$"
    sensors = BrokerUser(
        name=ALARM_USER, password=PASSWORD, configure=own, write=rf"{own}|^amq\.topic$", read=rf"{own}|^amq\.topic$"
    )
    ground = Ground(folder)
    try:
        node = TestBroker(ground, plugins=("rabbitmq_mqtt",), tls=True, users=(camel_user(PASSWORD), sensors))
        (node.folder / "conf.d").mkdir()
        lines = (
            f"mqtt.listeners.tcp.default = 127.0.0.1:{port}",
            f"mqtt.vhost = {VHOST}",
            "mqtt.allow_anonymous = false",
        )
        (node.folder / "conf.d" / "91-mqtt.conf").write_text("\n".join([*lines, ""]))
        await node.start()
        yield node, port
        await node.stop()
    finally:
        await asyncio.to_thread(ground.close)


def _simulator(folder: Path, kind: str, runner: str) -> RemoteSystem:
    home = folder / runner
    home.mkdir(exist_ok=True)
    return RemoteSystem(kind, home, *CREDENTIALS[kind])
