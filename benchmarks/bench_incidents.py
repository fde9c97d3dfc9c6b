"""How near do incidents over HTTP come to what PostgreSQL can write?

The same rows are written twice, by turns, on the same server with the same settings (fsync on): over HTTP with token,
validation, audit and event, loaded by wrk; and by pgbench, one statement for each incident. pgbench runs twice: with
the ticket number from the counter row, as Busbar has it, where its transactions wait for each other; and from a
sequence, which is the most that one transaction for each incident can reach, and what the goal is held against.
"""

import asyncio
from collections.abc import Sequence

import asyncpg
import msgspec
import psutil
from acceptance.api import Api
from acceptance.processes import Busbar, Installation, installation
from acceptance.world import ASSETS, incident

from benchmarks.findings import Cell, Findings, Scale, Table, at_least, median
from benchmarks.load import load, sign_in
from benchmarks.pgbench import pgbench
from benchmarks.processes import cpu_s, postmaster_of
from benchmarks.profiler import profile_of

QUESTION = "How near do incidents over HTTP come to what PostgreSQL can write?"
CLIENTS = 64
ROUNDS = 3
ROUND_S = 10.0
WARM_UP_S = 1.0
DRAIN_S_MAX = 600
BODIES = 240
RATIO_MIN = 0.4

_SCRIPT = """
\\set asset random(0, {assets_max})
\\set severity random(1, 4)
with number as (
    {number}
), opened as (
    select 'TKT-PM-' || to_char(now(), 'YYYYMMDD') || '-' || lpad(n::text, greatest(4, length(n::text)), '0')
        as ticket_id, gen_random_uuid() as event_id, gen_random_uuid() as incident_id, 'P' || :severity as severity, a.*
    from number, pm.asset a where a.asset_id = 'TRF-' || :asset
), ticket as (
    insert into core.ticket (ticket_id, module, ticket_type, title, description, priority, status, site_id, created_by,
        created_at, updated_at, sla_deadline, object_kind, object_id, correlation_id)
    select ticket_id, 'pm', 'Incident', 'Outage at ' || asset_id || ': Report', 'Report ' || ticket_id, severity,
        'Open', site_id, 'admin', now(), now(), now() + interval '4 hours', 'incident', incident_id::text,
        event_id::text
    from opened
), trail as (
    insert into core.audit (at, actor_id, actor_name, action, object_kind, object_id, site_id, new_status, comment,
        correlation_id)
    select now(), incident_id::text, 'admin', 'ticket.open', 'ticket', ticket_id, site_id, 'Open', null, event_id::text
    from opened
), told as (
    insert into core.event (event_id, event_type, module, site_id, subject, time, data, schema_version, correlation_id,
        traceparent, actor_id, origin)
    select event_id, 'PM_TICKET_CREATED', 'pm', site_id, ticket_id, now(), jsonb_build_object(
            'ticket_id', ticket_id, 'site', site_id, 'ticket_type', 'Incident', 'status', 'Open',
            'title', 'Outage at ' || asset_id || ': Report', 'description', 'Report ' || ticket_id,
            'priority', severity, 'created_by', 'admin', 'created_at', now(), 'sla_deadline', now(),
            'object_kind', 'incident', 'object_id', incident_id, 'incident', jsonb_build_object(
                'incident_id', incident_id, 'asset_id', asset_id, 'fault_type', 'outage', 'severity', severity,
                'started_at', now(), 'asset_name', name, 'asset_type', asset_type, 'latitude', latitude,
                'longitude', longitude, 'customers_affected', customers_served, 'customers_restored', 0)),
        1, event_id::text, '00-0123456789abcdef0123456789abcdef-0123456789abcdef-01', incident_id::text, null
    from opened
), incident as (
    insert into pm.incident (incident_id, ticket_id, asset_id, fault_type, severity, description, started_at,
        customers_affected, site_id, created_at, updated_at)
    select incident_id, ticket_id, asset_id, 'outage', severity, 'Report ' || ticket_id, now(), customers_served,
        site_id, now(), now() from opened
)
select ticket_id from opened;
"""
_COUNTER = """insert into core.ticket_counter as c (module, day, last) values ('pm', current_date, 1)
    on conflict (module, day) do update set last = c.last + 1 returning last as n"""
_SEQUENCE = "select nextval('core.bench_number') as n"


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What was written in one turn, and the processor time for each incident."""

    per_second: float
    p50_ms: float
    p99_ms: float
    app_ms: float | None = None
    database_ms: float


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of each."""

    busbar: Written
    counter: Written
    sequence: Written


async def measure(scale: Scale) -> Findings:
    """Measure with and without relay and workers in the process."""
    async with installation(fast_and_unsafe=False) as installed:
        yardstick = await _prepare(installed)
        bench = _Bench(installed=installed, database=await postmaster_of(installed), yardstick=yardstick, scale=scale)
        rows: list[tuple[Cell, ...]] = []
        ratios = {}
        for name, arguments in (("serve", ("serve",)), ("serve --no-work", ("serve", "--no-work"))):
            for connections in (1, 16):
                rows.append(_row(f"busbar {name}", connections, [await bench.busbar(arguments, connections)]))
            rounds = [await bench.round(arguments) for _ in range(ROUNDS)]
            rows.append(_row(f"busbar {name}", CLIENTS, [each.busbar for each in rounds], rounds))
            rows.append(_row("pgbench, counter row", CLIENTS, [each.counter for each in rounds]))
            rows.append(_row("pgbench, sequence", CLIENTS, [each.sequence for each in rounds]))
            ratios[name] = median([each.busbar.per_second / each.sequence.per_second for each in rounds])
        profile = await bench.profile()
    columns = (
        *("by", "connections", "per second", "of counter row", "of sequence", "p50 ms", "p99 ms"),
        *("app CPU ms each", "PostgreSQL CPU ms each"),
    )
    return Findings(
        tables=(
            Table(
                title=f"Incidents written; medians of {ROUNDS} rounds with {CLIENTS}", columns=columns, rows=tuple(rows)
            ),
            profile,
        ),
        goals=tuple(
            at_least(f"busbar {name}, {CLIENTS} connections: share of pgbench with a sequence", ratio, RATIO_MIN)
            for name, ratio in ratios.items()
        ),
    )


async def _prepare(installed: Installation) -> str:
    """Make the site and its assets, and a copy of the database for pgbench; returns the copy's address."""
    busbar = await installed.start("serve", "--no-work")
    async with Api(busbar.url) as api:
        await api.post("/api/v1/sites", {"site_id": "north", "name": "Depot North", "modules": ["pm"]})
        for n in range(ASSETS):
            asset = {"asset_id": f"TRF-{n}", "asset_type": "transformer", "name": f"Transformer {n}", "site": "north"}
            await api.post("/api/v1/pm/assets", asset | {"customers_served": 10 * n})
    await busbar.stop()
    for database, statement in (
        ("postgres", "create database yardstick template busbar"),
        ("yardstick", "create sequence core.bench_number start 1000000000"),
    ):
        connection = await asyncpg.connect(installed.dsn.replace("/busbar?", f"/{database}?"))
        await connection.execute(statement)
        await connection.close()
    return installed.dsn.replace("/busbar?", "/yardstick?")


class _Bench(msgspec.Struct, frozen=True, kw_only=True):
    installed: Installation
    database: psutil.Process
    yardstick: str
    scale: Scale

    async def busbar(self, arguments: tuple[str, ...], connections: int) -> Written:
        """Start a Busbar, load it, let it finish what is left to do, and stop it."""
        busbar = await self.installed.start(*arguments)
        written = await self._load(busbar, connections)
        if "--no-work" not in arguments:
            async with Api(busbar.url) as api:
                await api.drained(within_s=DRAIN_S_MAX)
        await busbar.stop()
        return written

    async def round(self, arguments: tuple[str, ...]) -> Round:
        """One turn of each."""
        return Round(
            busbar=await self.busbar(arguments, CLIENTS),
            counter=await self._pgbench(_COUNTER),
            sequence=await self._pgbench(_SEQUENCE),
        )

    async def profile(self) -> Table:
        """Where the processor time of the API goes."""
        busbar = await self.installed.start("serve", "--no-work")
        seconds = self.scale.seconds(ROUND_S)
        loading = asyncio.create_task(self._load(busbar, CLIENTS))
        await asyncio.sleep(WARM_UP_S)
        table = await profile_of(busbar.pid, seconds=seconds)
        await loading
        await busbar.stop()
        return table

    async def _load(self, busbar: Busbar, connections: int) -> Written:
        await self.installed.query("checkpoint")
        url, authorization = f"{busbar.url}/api/v1/pm/incidents", await sign_in(busbar.url)
        bodies = [incident(n) for n in range(BODIES)]
        await load(url, authorization=authorization, connections=connections, seconds=WARM_UP_S, bodies=bodies)
        app = psutil.Process(busbar.pid)
        app_s, database_s = cpu_s(app), cpu_s(self.database)
        answers = await load(
            url,
            authorization=authorization,
            connections=connections,
            seconds=self.scale.seconds(ROUND_S),
            bodies=bodies,
        )
        return Written(
            per_second=answers.per_second,
            p50_ms=answers.p50_ms,
            p99_ms=answers.p99_ms,
            app_ms=(cpu_s(app) - app_s) / answers.requests * 1e3,
            database_ms=(cpu_s(self.database) - database_s) / answers.requests * 1e3,
        )

    async def _pgbench(self, number: str) -> Written:
        await self.installed.query("checkpoint")
        database_s, seconds = cpu_s(self.database), self.scale.seconds(ROUND_S)
        script = _SCRIPT.format(number=number, assets_max=ASSETS - 1)
        done = await pgbench(self.yardstick, script, clients=CLIENTS, seconds=seconds)
        return Written(
            per_second=done.per_second,
            p50_ms=done.p50_ms,
            p99_ms=done.p99_ms,
            database_ms=(cpu_s(self.database) - database_s) / (done.per_second * seconds) * 1e3,
        )


def _row(by: str, connections: int, all_written: Sequence[Written], rounds: Sequence[Round] = ()) -> tuple[Cell, ...]:
    def middle(name: str) -> float | None:
        values = [getattr(written, name) for written in all_written]
        return None if None in values else median(values)

    return (
        by,
        connections,
        middle("per_second"),
        median([each.busbar.per_second / each.counter.per_second for each in rounds]) if rounds else None,
        median([each.busbar.per_second / each.sequence.per_second for each in rounds]) if rounds else None,
        *(middle(name) for name in ("p50_ms", "p99_ms", "app_ms", "database_ms")),
    )
