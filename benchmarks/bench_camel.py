"""How many deliveries per second does Camel send, beside Busbar's own router?

Both send the same kind of events to the ServiceNow-compatible simulator, a process of its own, and ask it first whether
the record is there. A backlog is made while nothing is sent; then it drains. It does so by turns: by Busbar over the
embedded bus, by Busbar over RabbitMQ, and by Camel over RabbitMQ with 4 consumers, as it comes, and with 16.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
from acceptance.api import Api
from acceptance.camel import Camel
from acceptance.json_process import JsonProcess
from acceptance.processes import Installation, free_port, installation
from acceptance.rabbitmq import SERVER
from acceptance.world import incident

from benchmarks.findings import Cell, Findings, Scale, Table
from benchmarks.processes import cpu_s, postmaster_of
from benchmarks.storm import storm

QUESTION = "How many deliveries per second does Camel send, beside Busbar's own router?"
BACKLOG = 2_000
WARM = 200
"""Deliveries before those that count: a Java process needs some to become fast."""
DRAIN_S_MAX = 600
SIMULATOR = ("-m", "busbar_itsm.simulator", "--port", "0", "--tls-port", "0")


async def measure(scale: Scale) -> Findings:
    """Drain the same backlog in each way, each on an installation of its own."""
    events = scale.count(BACKLOG)
    rows: list[tuple[Cell, ...]] = []
    for name, runner, is_brokered, consumers in (
        ("Busbar, embedded bus", "busbar", False, 0),
        ("Busbar, RabbitMQ", "busbar", True, 0),
        ("Camel, 4 consumers", "camel", True, 4),
        ("Camel, 16 consumers", "camel", True, 16),
    ):
        async with installation(fast_and_unsafe=False) as installed, _broker(is_brokered) as amqp_url:
            rows.append((name, *await _turn(installed, amqp_url, runner, consumers, events)))
    first = rows[0][1]
    assert isinstance(first, float)
    beside = [(*row, row[1] / first) for row in rows if isinstance(row[1], float)]
    columns = ("sent by", "per second", "Busbar CPU ms", "PostgreSQL CPU ms", "Camel CPU ms", "to the first")
    return Findings(
        tables=(Table(title=f"A backlog of {events:,} events", columns=columns, rows=tuple(beside)),),
        notes=("Processor time is for one delivery. Everything shares the cores of one machine, RabbitMQ too.",),
    )


async def _turn(
    installed: Installation, amqp_url: str, runner: str, consumers: int, events: int
) -> tuple[float, float, float, float | None]:
    """Deliveries per second; processor time in ms for each, of Busbar, of PostgreSQL, and of Camel if it sends."""
    process = JsonProcess(*SIMULATOR)
    camel: Camel | None = None
    try:
        ready = await asyncio.to_thread(process.read)
        if runner == "camel":
            remote = {"ITSM_URL": ready["url"], "ITSM_USERNAME": ready["username"], "ITSM_PASSWORD": ready["password"]}
            # With the compiler that a server has, unlike in tests.
            options = {"JAVA_OPTS": "-Xmx256m", "CONSUMERS": str(consumers)}
            camel = Camel(installed.folder, AMQP_URL=amqp_url, **remote, **options)
            await camel.start()
        port = free_port()
        busbar = await installed.start(port=port, AMQP_URL=amqp_url)
        async with Api(busbar.url) as api:
            await _furnish(api, ready, runner)
            await _report(api, WARM)
            await api.drained(within_s=DRAIN_S_MAX)
        await busbar.stop()
        idle = await installed.start("serve", "--no-work", AMQP_URL=amqp_url)
        told = await storm(idle.url, incidents=events, seconds=0)
        assert told.accepted == events, f"only {told.accepted} of {events} were accepted"
        await idle.stop()
        (since,) = await installed.query("select now() as now")
        database = await postmaster_of(installed)
        database_s, camel_s = cpu_s(database), _cpu_s(camel)
        busbar = await installed.start(port=port, AMQP_URL=amqp_url)
        async with Api(busbar.url) as api:
            await api.drained(within_s=DRAIN_S_MAX)
        spent_s = cpu_s(psutil.Process(busbar.pid)), cpu_s(database) - database_s, _cpu_s(camel) - camel_s
        await busbar.stop()
    finally:
        process.terminate()
        if camel is not None:
            await camel.stop()
    (row,) = await installed.query(
        "select count(*) as n, extract(epoch from max(a.finished_at) - min(a.started_at))::float as seconds "
        "from core.delivery_attempt a join core.delivery d using (delivery_id) "
        "where a.outcome = 'delivered' and d.endpoint_id = 'itsm' and a.started_at > $1",
        since["now"],
    )
    assert row["n"] == events, f"{row['n']} of {events} were delivered"
    busbar_ms, database_ms, camel_ms = (each / events * 1e3 for each in spent_s)
    return events / row["seconds"], busbar_ms, database_ms, camel_ms if camel else None


async def _furnish(api: Api, remote: dict[str, Any], runner: str) -> None:
    await api.post("/api/v1/sites", {"site_id": "north", "name": "Depot North", "modules": ["pm"]})
    for n in range(40):
        asset = {"asset_id": f"TRF-{n}", "asset_type": "transformer", "name": f"Transformer {n}", "site": "north"}
        await api.post("/api/v1/pm/assets", asset | {"customers_served": 10})
    settings = {"base_url": remote["url"], "username": remote["username"]}
    endpoint = {"endpoint_id": "itsm", "connector": "itsm", "name": "Service desk", "runner": runner}
    await api.post("/api/v1/endpoints", endpoint | {"settings": settings, "secrets": {"password": remote["password"]}})
    route = {"route_id": "pm", "name": "PM to the service desk", "pattern": ["PM_*"], "endpoint_id": "itsm"}
    await api.post("/api/v1/routes", route)
    await api.post("/api/v1/routes/pm/publish")


async def _report(api: Api, count: int) -> None:
    for n in range(count):
        await api.post("/api/v1/pm/incidents", incident(n))


def _cpu_s(camel: Camel | None) -> float:
    return 0.0 if camel is None else cpu_s(psutil.Process(camel.pid))


@asynccontextmanager
async def _broker(is_wanted: bool) -> AsyncIterator[str]:
    """The address of a virtual host; "" where none is wanted."""
    if not is_wanted:
        yield ""
        return
    vhost = await asyncio.to_thread(SERVER.ask, "create_vhost")
    try:
        yield vhost["url"]
    finally:
        await asyncio.to_thread(SERVER.ask, "drop_vhost", name=vhost["name"])
