"""How long after the answer does the remote system have it, and how fast does a backlog drain?

The remote is the ServiceNow-compatible simulator, a process of its own; each delivery asks it whether the record is
there, and creates it. First 20 incidents a second are reported and nothing else happens; then a backlog is made while
no worker runs. The yardstick for draining is what the simulator takes from wrk: one create for each request.
"""

import asyncio
import base64
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from acceptance.api import Api
from acceptance.json_process import JsonProcess
from acceptance.processes import Installation, installation
from acceptance.world import World, incident, world

from benchmarks.findings import Cell, Findings, Scale, Table, quantile
from benchmarks.load import load
from benchmarks.processes import cpu_s, postmaster_of
from benchmarks.storm import storm

QUESTION = "How long after the answer does the remote system have it, and how fast does a backlog drain?"
RATE_PER_S = 20
PACED_S = 30.0
BACKLOG = 5_000
DRAIN_S_MAX = 900
YARDSTICK_S = 5.0
YARDSTICK_CONNECTIONS = 8


async def measure(scale: Scale) -> Findings:
    """Measure the latency, then the backlog, on one installation."""
    async with installation(fast_and_unsafe=False) as installed, world(installed) as around:
        busbar = await installed.start()
        async with Api(busbar.url) as api:
            await around.furnish(api)
            await _report_evenly(api, 1.0)
            await api.drained(within_s=DRAIN_S_MAX)
            sent, answered = await _report_evenly(api, scale.seconds(PACED_S))
            await api.drained(within_s=DRAIN_S_MAX)
        await busbar.stop()
        effects = await _effects(around)
        from_answer = [(effects[ticket] - at) * 1e3 for ticket, at in answered.items()]
        from_request = [(effects[ticket] - at) * 1e3 for ticket, at in sent.items()]
        drained = await _drain_backlog(installed, around, scale.count(BACKLOG))
        simulator = await _yardstick(installed.folder / "yardstick.jsonl", scale.seconds(YARDSTICK_S))
    latency: tuple[tuple[Cell, ...], ...] = tuple(
        (name, len(values), quantile(values, 0.5), quantile(values, 0.99), max(values))
        for name, values in (
            ("from the answer to the remote effect", from_answer),
            ("from the request to the remote effect", from_request),
        )
    )
    return Findings(
        tables=(
            Table(
                title=f"{RATE_PER_S} incidents a second, to the simulator",
                columns=("time", "incidents", "p50 ms", "p99 ms", "max ms"),
                rows=latency,
            ),
            Table(
                title=f"A backlog of {scale.count(BACKLOG):,} events, one process with relay and workers",
                columns=("", "per second", "app CPU ms", "PostgreSQL CPU ms", "simulator CPU ms"),
                rows=(drained, ("creates by wrk, straight to the simulator", *simulator)),
            ),
        ),
    )


async def _report_evenly(api: Api, seconds: float) -> tuple[dict[str, float], dict[str, float]]:
    """Report incidents at the rate; when each ticket's request was sent and answered, in seconds of the clock."""
    sent: dict[str, float] = {}
    answered: dict[str, float] = {}

    async def report(n: int) -> None:
        began = time.time()
        ticket = (await api.post("/api/v1/pm/incidents", incident(n)))["ticket_id"]
        sent[ticket], answered[ticket] = began, time.time()

    start = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for n in range(round(seconds * RATE_PER_S)):
            await asyncio.sleep(max(0.0, start + n / RATE_PER_S - time.monotonic()))
            group.create_task(report(n))
    return sent, answered


async def _effects(around: World) -> dict[str, float]:
    """When each ticket was created at the simulator."""
    answer = await around.remote.ask("GET", "effects?method=POST&table=incident")
    return {each["correlation_id"]: datetime.fromisoformat(each["time"]).timestamp() for each in answer["effects"]}


async def _drain_backlog(installed: Installation, around: World, events: int) -> tuple[Cell, ...]:
    """Make a backlog without workers, then start one process; the rate from its first delivery to its last."""
    idle = await installed.start("serve", "--no-work")
    told = await storm(idle.url, incidents=events, seconds=0)
    assert told.accepted == events, f"only {told.accepted} of {events} were accepted"
    await idle.stop()
    (since,) = await installed.query("select now() as now")
    database, simulator = await postmaster_of(installed), _simulator()
    before = cpu_s(database), cpu_s(simulator)
    busbar = await installed.start()
    async with Api(busbar.url) as api:
        await api.drained(within_s=DRAIN_S_MAX)
    app_s = cpu_s(psutil.Process(busbar.pid))
    database_s, simulator_s = cpu_s(database) - before[0], cpu_s(simulator) - before[1]
    await busbar.stop()
    (row,) = await installed.query(
        "select count(*) as n, extract(epoch from max(finished_at) - min(created_at))::float as seconds "
        "from core.delivery where state = 'delivered' and endpoint_id = 'service-desk' and finished_at > $1",
        since["now"],
    )
    assert row["n"] == events, f"{row['n']} of {events} were delivered"
    each_ms = (spent_s / events * 1e3 for spent_s in (app_s, database_s, simulator_s))
    return ("deliveries", events / row["seconds"], *each_ms)


async def _yardstick(state: Path, seconds: float) -> tuple[Cell, ...]:
    process = JsonProcess("-m", "busbar_itsm.simulator", "--port", "0", "--tls-port", "0", "--state-file", str(state))
    try:
        ready = await asyncio.to_thread(process.read)
        simulator = psutil.Process(process.process.pid)
        before_s = cpu_s(simulator)
        answers = await load(
            f"{ready['url']}/api/now/table/incident",
            authorization="Basic " + base64.b64encode(f"{ready['username']}:{ready['password']}".encode()).decode(),
            connections=YARDSTICK_CONNECTIONS,
            seconds=seconds,
            bodies=[_record(n) for n in range(100)],
        )
        return (answers.per_second, None, None, (cpu_s(simulator) - before_s) / answers.requests * 1e3)
    finally:
        process.terminate()


def _record(n: int) -> dict[str, Any]:
    return {"short_description": f"Report {n}", "urgency": "1", "impact": "2", "correlation_id": f"wrk-{n}"}


def _simulator() -> psutil.Process:
    """The process of the world's simulator, a child of ours."""
    (found,) = [child for child in psutil.Process().children() if "busbar_itsm.simulator" in child.cmdline()]
    return found
