"""How long do five years of reliability indices take?

The SimBench grid is imported, and 107,000 outages with their steps of restoration are made on it by one statement:
what a utility of two million customers has in five years. Then each question is asked over HTTP, one at a time. Beside
it stands the least that PostgreSQL must do for any of them: the same rows joined and added up by day, asked by asyncpg.
"""

import datetime as dt
import time
from collections.abc import Awaitable
from typing import Any

import asyncpg
from acceptance.api import Api
from acceptance.processes import Installation, installation

from benchmarks.bench_import import GRID, _command
from benchmarks.findings import Cell, Findings, Scale, Table, at_most, median
from busbar_pm.tests import outages

QUESTION = "How long do five years of reliability indices take?"
SECONDS_MAX = 2.0
ROUNDS = 9
CUSTOMERS = 2_200_000
SEED = 0.4

FIVE_YEARS = "site=north&from=2021-01-01&to=2026-01-01"
QUESTIONS = {
    "the site, by month": f"indices?{FIVE_YEARS}&by=month&customers_served={CUSTOMERS}",
    "each feeder, by quarter": f"indices?{FIVE_YEARS}&by=quarter&per=feeder",
    "one feeder, by month": f"indices?{FIVE_YEARS}&by=month&feeder={{feeder}}",
    "major event days of a year": f"indices/major-event-days?site=north&year=2025&customers_served={CUSTOMERS}",
    "the outages with most customer minutes": f"indices/incidents?{FIVE_YEARS}&limit=50",
    "those of one feeder": f"indices/incidents?{FIVE_YEARS}&limit=50&feeder={{feeder}}",
    "those of the worst day": "indices/incidents?site=north&from={day}&to={day_after}&limit=50",
}

_BARE = """
select (i.started_at at time zone 'Europe/Berlin')::date as day, sum(customers) as customers,
    sum(customers * extract(epoch from ended - i.started_at)) / 60 as customer_minutes
from pm.incident i join core.ticket t using (ticket_id) left join pm.restoration_step s using (incident_id),
    lateral (select coalesce(s.customers_restored, i.customers_affected) as customers,
        coalesce(s.restored_at, i.restored_at) as ended) e
where i.site_id = 'north' and i.fault_type = 'outage' and t.status <> 'Cancelled'
    and i.started_at >= '2020-12-31T23:00:00Z' and i.started_at < '2025-12-31T23:00:00Z'
    and ended - i.started_at > interval '5 minutes'
group by 1
"""


async def measure(scale: Scale) -> Findings:
    """Measure each question, and the bare statement, by turns."""
    assert GRID.is_dir(), f"The grid is not at {GRID}; set BUSBAR_SHARED to the folder that has `data/simbench-grid`."
    async with installation(fast_and_unsafe=False) as installed:
        await _command(installed, "site", "add", "north", "North", "--timezone", "Europe/Berlin", "--module", "pm")
        await _command(installed, "import", "simbench", str(GRID), "--site", "north")
        made = await _make_outages(installed, scale.count(outages.COUNT))
        busbar = await installed.start("serve", "--no-work")
        connection = await asyncpg.connect(installed.dsn, server_settings={"jit": "off"})
        try:
            async with Api(busbar.url) as api:
                seconds, bare_s = await _ask(api, connection, rounds=3 if scale.quick else ROUNDS)
        finally:
            await connection.close()
    least = median(bare_s)
    rows: list[tuple[Cell, ...]] = [
        (name, median(times), max(times), median(times) / least) for name, times in seconds.items()
    ]
    rows.append(("beside it: the same rows added up by day, asyncpg", least, max(bare_s), 1.0))
    columns = ("", "median s", "slowest s", "to the bare statement")
    title = f"GET /api/v1/pm/…, {made['outages']:,} outages with {made['steps']:,} steps at {made['assets']:,} assets"
    return Findings(
        tables=(Table(title=title, columns=columns, rows=tuple(rows)),),
        goals=tuple(
            at_most(f"{name}, five years: slowest answer in s", max(seconds[name]), SECONDS_MAX)
            for name in list(QUESTIONS)[:3]
        ),
        notes=(
            "Indices come with and without major event days; those are found from the same days, by the threshold "
            "that the years before each set. The outages are drawn, see plugins/pm/busbar_pm/tests/outages.py.",
        ),
    )


async def _make_outages(installed: Installation, count: int) -> dict[str, int]:
    connection = await asyncpg.connect(installed.dsn)
    try:
        async with connection.transaction():
            await connection.execute("select setseed($1)", SEED)
            await connection.execute(outages.GENERATE, "north", outages.FIRST, outages.DAYS, count, timeout=600)
        # As autovacuum would have done long since, for rows of five years.
        await connection.execute("vacuum analyze", timeout=600)
        tables = {"outages": "pm.incident", "steps": "pm.restoration_step", "assets": "pm.asset"}
        return {name: await connection.fetchval(f"select count(*) from {table}") for name, table in tables.items()}
    finally:
        await connection.close()


async def _ask(api: Api, connection: asyncpg.Connection, *, rounds: int) -> tuple[dict[str, list[float]], list[float]]:
    """The seconds of each question in each round, and of the bare statement; the answers are checked against it."""
    by_day = await connection.fetch(_BARE)
    worst = max(by_day, key=lambda row: row["customer_minutes"])["day"]
    feeder = await connection.fetchval(
        "select asset_id from pm.asset where asset_type = 'feeder' order by customers_served desc, asset_id limit 1"
    )
    paths = {
        name: "/api/v1/pm/" + path.format(feeder=feeder, day=worst, day_after=worst + dt.timedelta(days=1))
        for name, path in QUESTIONS.items()
    }
    months = (await api.get(paths["the site, by month"]))["cells"]
    expected = float(sum(row["customer_minutes"] for row in by_day))
    found = sum(cell["all_days"]["customer_minutes"] for cell in months)
    assert abs(found / expected - 1) < 1e-9, f"{found:,} customer minutes instead of {expected:,}"

    seconds: dict[str, list[float]] = {name: [] for name in paths}
    bare_s: list[float] = []
    for _ in range(rounds):
        for name, path in paths.items():
            seconds[name].append(await _timed(api.get(path)))
        bare_s.append(await _timed(connection.fetch(_BARE)))
    return seconds, bare_s


async def _timed(asking: Awaitable[Any]) -> float:
    began = time.perf_counter()
    await asking
    return time.perf_counter() - began
