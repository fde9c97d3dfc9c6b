"""How near does the cost pipeline come to what PostgreSQL can write?

A backlog of stock issues, as materials management tells of them, is worked off by one process: relay, worker, and the
handler that finds the cost center, checks its budget, posts the entry and tells it. The yardstick is pgbench, which
writes the same rows with one statement for each entry, on a copy of the database on the same server (fsync on): the
delivery and its attempt, entry, budget, audit entry and event. Once with cost centers of their own budgets, and once
below one budget that all share, where bookings take turns.
"""

from collections.abc import Sequence

import asyncpg
import msgspec
import psutil
from acceptance.api import Api
from acceptance.processes import Installation, installation

from benchmarks.findings import Cell, Findings, Scale, Table, at_least, median
from benchmarks.pgbench import pgbench
from benchmarks.processes import cpu_s, postmaster_of

QUESTION = "How near does the cost pipeline come to what PostgreSQL can write?"
CENTERS = 40
EVENTS = 5_000
ROUNDS = 3
ROUND_S = 10.0
CLIENTS = 16
"""As many as a worker takes of one subscription at a time."""
DRAIN_S_MAX = 900
RATIO_MIN = 0.1

_BACKLOG = """
insert into core.event (event_id, event_type, module, site_id, subject, time, data, schema_version, correlation_id,
    traceparent, actor_id, origin)
select id, 'MM_STOCK_CHANGED', 'mm', 'north', 'MAT-' || n % 200, now(), jsonb_build_object(
        'transaction_id', id, 'material_id', 'MAT-' || n % 200, 'description', 'Fuse link', 'unit_of_measure', 'EA',
        'quantity_change', '-1.000', 'new_quantity', '100.000', 'transaction_type', 'issue',
        'storage_location', 'RACK', 'to_storage_location', null, 'quantity_at_location', '100.000', 'ticket_id', null,
        'cost_center_id', $2::text || n % $3::int, 'requisition_id', null, 'value', (n % 997 + 0.25)::text,
        'currency', 'EUR', 'posted_at', now(), 'posted_by', 'admin', 'note', ''),
    1, id::text, '00-0123456789abcdef0123456789abcdef-0123456789abcdef-01', id::text, null
from (select n, gen_random_uuid() as id from generate_series(1, $1::int) n) asked
"""
# The budget that all share is locked by every booking below it, as Busbar does.
_SCRIPT = """
\\set number random(0, {centers_max})
\\set amount random(1, 1000)
with locked as (
    select c.* from fi.cost_center c where c.cost_center_id in ({locked})
    order by c.cost_center_id for no key update
), center as (
    select *, gen_random_uuid() as event_id, gen_random_uuid() as entry_id, :amount::numeric(15,2) as amount
    from locked where cost_center_id = '{prefix}' || :number
), entry as (
    insert into fi.cost_entry (entry_id, kind, ticket_id, cost_center_id, fiscal_year, posting_date, cost_type, amount,
        currency, description, source_event_type, source_event_id, source_line, posted_by, site_id, created_at)
    select entry_id, 'cost', null, cost_center_id, fiscal_year, current_date, 'OPEX', amount, currency,
        '1 EA of MAT-1 Fuse link issued', 'MM_STOCK_CHANGED', event_id, 1, 'fi', site_id, now()
    from center
), budget as (
    update fi.budget_year y set actual_amount = y.actual_amount + center.amount from center
    where y.cost_center_id = center.cost_center_id and y.fiscal_year = center.fiscal_year
), trail as (
    insert into core.audit (at, actor_id, actor_name, action, object_kind, object_id, site_id, comment, details,
        correlation_id)
    select now(), 'system fi', 'fi', 'cost_entry.post', 'cost_entry', entry_id::text, site_id,
        '1 EA of MAT-1 Fuse link issued', jsonb_build_object('amount', amount::text, 'cost_type', 'OPEX',
            'cost_center_id', cost_center_id, 'ticket_id', null), event_id::text
    from center
), told as (
    insert into core.event (event_id, event_type, module, site_id, subject, time, data, schema_version, correlation_id,
        traceparent, actor_id, origin)
    select event_id, 'FI_COST_POSTED', 'fi', site_id, cost_center_id, now(), jsonb_build_object(
            'entry_id', entry_id, 'kind', 'cost', 'ticket_id', null, 'cost_center_id', cost_center_id,
            'fiscal_year', fiscal_year, 'posting_date', current_date, 'cost_type', 'OPEX', 'amount', amount::text,
            'currency', currency, 'source_event_type', 'MM_STOCK_CHANGED', 'source_event_id', event_id,
            'asset_id', null, 'description', '1 EA of MAT-1 Fuse link issued', 'reverses', null),
        1, event_id::text, '00-0123456789abcdef0123456789abcdef-0123456789abcdef-01', 'system fi', null
    from center
), delivery as (
    insert into core.delivery (event_id, position, subscription, site_id, state, attempts, next_attempt_at, created_at,
        updated_at, finished_at)
    select event_id, 0, 'fi.stock', site_id, 'delivered', 1, now(), now(), now(), now() from center
    returning delivery_id
)
insert into core.delivery_attempt (delivery_id, attempt, started_at, finished_at, outcome, worker)
select delivery_id, 1, now(), now(), 'delivered', 1 from delivery;
"""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """Cost centers of one kind."""

    name: str
    prefix: str
    shared: str | None = None
    """The cost center above all of them, whose budget is checked too."""

    @property
    def script(self) -> str:
        """What pgbench runs."""
        own = f"'{self.prefix}' || :number"
        locked = own if self.shared is None else f"{own}, '{self.shared}'"
        return _SCRIPT.format(centers_max=CENTERS - 1, prefix=self.prefix, locked=locked)


KINDS = (
    Kind(name="budgets of their own", prefix="OWN-"),
    Kind(name="one budget above all", prefix="BELOW-", shared="TOP"),
)


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What was written in one turn, and the processor time for each entry."""

    per_second: float
    app_ms: float | None = None
    database_ms: float


async def measure(scale: Scale) -> Findings:
    """Work off backlogs of both kinds, by turns with pgbench."""
    async with installation(fast_and_unsafe=False) as installed:
        yardstick = await _prepare(installed)
        bench = _Bench(installed=installed, database=await postmaster_of(installed), yardstick=yardstick, scale=scale)
        rows: list[tuple[Cell, ...]] = []
        ratios = {}
        for kind in KINDS:
            rounds = [(await bench.busbar(kind), await bench.pgbench(kind)) for _ in range(ROUNDS)]
            ratios[kind.name] = median([ours.per_second / theirs.per_second for ours, theirs in rounds])
            rows.append(_row(f"busbar, {kind.name}", [ours for ours, _ in rounds], ratios[kind.name]))
            rows.append(_row(f"pgbench, {kind.name}", [theirs for _, theirs in rounds]))
        await _check(installed)
    return Findings(
        tables=(
            Table(
                title=f"Cost entries from events; medians of {ROUNDS} rounds, backlogs of {scale.count(EVENTS):,}",
                columns=("by", "per second", "of pgbench", "app CPU ms each", "PostgreSQL CPU ms each"),
                rows=tuple(rows),
            ),
        ),
        goals=tuple(
            at_least(f"cost pipeline, {name}: share of pgbench", ratio, RATIO_MIN) for name, ratio in ratios.items()
        ),
    )


async def _prepare(installed: Installation) -> str:
    """Make the site and its cost centers, and a copy of the database for pgbench; returns the copy's address."""
    busbar = await installed.start("serve", "--no-work")
    async with Api(busbar.url) as api:
        await api.post("/api/v1/sites", {"site_id": "north", "name": "Depot North", "modules": ["fi"]})
        body = {"budget_amount": "9000000000.00", "fiscal_year": await _year(installed), "site": "north"}
        body |= {"responsible_manager": "Anna Berg", "name": "Bench"}
        await api.post("/api/v1/fi/cost-centers", body | {"cost_center_id": "TOP"})
        for kind in KINDS:
            for n in range(CENTERS):
                center = {"cost_center_id": f"{kind.prefix}{n}", "parent_id": kind.shared}
                await api.post("/api/v1/fi/cost-centers", body | center)
    await busbar.stop()
    connection = await asyncpg.connect(installed.dsn.replace("/busbar?", "/postgres?"))
    await connection.execute("create database yardstick template busbar")
    await connection.close()
    return installed.dsn.replace("/busbar?", "/yardstick?")


async def _year(installed: Installation) -> int:
    (row,) = await installed.query("select extract(year from now() at time zone 'utc')::int as year")
    return int(row["year"])


async def _check(installed: Installation) -> None:
    """Each event must have made one entry of its value, or the numbers would say nothing."""
    (row,) = await installed.query(
        "select count(*) as told, count(c.entry_id) as posted, "
        "count(*) filter (where c.amount <> (e.data ->> 'value')::numeric) as wrong "
        "from core.event e left join fi.cost_entry c on c.source_event_id = e.event_id "
        "where e.event_type = 'MM_STOCK_CHANGED'"
    )
    assert row["told"] == row["posted"] and not row["wrong"], dict(row)
    differing = await installed.query(
        "select cost_center_id from fi.budget_year y where actual_amount <> (select coalesce(sum(amount), 0) "
        "from fi.cost_entry e where e.cost_center_id = y.cost_center_id and e.fiscal_year = y.fiscal_year)"
    )
    assert not differing, f"totals differ from their entries: {differing[:3]}"


class _Bench(msgspec.Struct, frozen=True, kw_only=True):
    installed: Installation
    database: psutil.Process
    yardstick: str
    scale: Scale

    async def busbar(self, kind: Kind) -> Written:
        """Make a backlog while nothing runs, then start one process; the rate from first delivery to last."""
        events = self.scale.count(EVENTS)
        await self.installed.query(_BACKLOG, events, kind.prefix, CENTERS)
        await self.installed.query("checkpoint")
        (since,) = await self.installed.query("select now() as now")
        before_s = cpu_s(self.database)
        busbar = await self.installed.start()
        async with Api(busbar.url) as api:
            await api.drained(within_s=DRAIN_S_MAX)
        app_s, database_s = cpu_s(psutil.Process(busbar.pid)), cpu_s(self.database) - before_s
        await busbar.stop()
        (row,) = await self.installed.query(
            "select count(*) as n, extract(epoch from max(finished_at) - min(created_at))::float as seconds "
            "from core.delivery where state = 'delivered' and subscription = 'fi.stock' and finished_at > $1",
            since["now"],
        )
        assert row["n"] == events, f"{row['n']} of {events} were delivered"
        return Written(
            per_second=events / row["seconds"], app_ms=app_s / events * 1e3, database_ms=database_s / events * 1e3
        )

    async def pgbench(self, kind: Kind) -> Written:
        """The same rows, by pgbench."""
        await self.installed.query("checkpoint")
        database_s, seconds = cpu_s(self.database), self.scale.seconds(ROUND_S)
        done = await pgbench(self.yardstick, kind.script, clients=CLIENTS, seconds=seconds)
        return Written(
            per_second=done.per_second,
            database_ms=(cpu_s(self.database) - database_s) / (done.per_second * seconds) * 1e3,
        )


def _row(by: str, all_written: Sequence[Written], ratio: float | None = None) -> tuple[Cell, ...]:
    def middle(name: str) -> float | None:
        values = [getattr(written, name) for written in all_written]
        return None if None in values else median(values)

    return (by, middle("per_second"), ratio, middle("app_ms"), middle("database_ms"))
