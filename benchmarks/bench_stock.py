"""How near do stock issues over HTTP come to what PostgreSQL can write?

The same rows are written twice, by turns, on the same server with the same settings (fsync on): over HTTP with token,
validation, ledger, audit and event, loaded by wrk; and by pgbench, one statement for each issue, guarded against a
negative quantity. Both of one material, where whoever issues waits for the material's row, and of many.
"""

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec
import psutil
from acceptance.api import Api
from acceptance.processes import Installation, installation

from benchmarks.findings import Cell, Findings, Scale, Table, at_least, median
from benchmarks.load import load, sign_in
from benchmarks.pgbench import pgbench
from benchmarks.processes import cpu_s, postmaster_of

QUESTION = "How near do stock issues over HTTP come to what PostgreSQL can write?"
MATERIALS = 400
CLIENTS = 64
ROUNDS = 3
ROUND_S = 10.0
WARM_UP_S = 1.0
RATIO_MIN = 0.4

_SCRIPT = """
\\set number random(0, {materials_max})
with material as (
    update mm.material set quantity = quantity - 1, posted_at = now(),
        stock_value = stock_value - round(stock_value / quantity, 2),
        moving_average = round((stock_value - round(stock_value / quantity, 2)) / (quantity - 1), 4)
    where material_id = 'MAT-' || :number and quantity > 1
    returning *, round(stock_value / quantity, 2) as value
), place as (
    update mm.stock s set quantity = s.quantity - 1 from material m
    where s.material_id = m.material_id and s.storage_location = m.storage_location and s.quantity >= 1
    returning s.quantity
), posted as (
    select m.*, place.quantity as there, gen_random_uuid() as transaction_id, gen_random_uuid() as event_id
    from material m, place
), ledger as (
    insert into mm.stock_transaction (transaction_id, line, material_id, transaction_type, quantity_change,
        new_quantity, storage_location, quantity_at_location, value_change, currency, note, posted_at, posted_by,
        correlation_id, site_id)
    select transaction_id, 1, material_id, 'issue', -1, quantity, storage_location, there, -value, currency, '',
        posted_at, 'admin', event_id::text, site_id
    from posted
), trail as (
    insert into core.audit (at, actor_id, actor_name, action, object_kind, object_id, site_id, details, correlation_id)
    select posted_at, transaction_id::text, 'admin', 'stock.issue', 'material', material_id, site_id,
        jsonb_build_object('transaction_id', transaction_id, 'quantity_change', -1, 'new_quantity', quantity,
            'storage_location', storage_location), event_id::text
    from posted
)
insert into core.event (event_id, event_type, module, site_id, subject, time, data, schema_version, correlation_id,
    traceparent, actor_id, origin)
select event_id, 'MM_STOCK_CHANGED', 'mm', site_id, material_id, posted_at, jsonb_build_object(
        'transaction_id', transaction_id, 'material_id', material_id, 'description', description,
        'unit_of_measure', unit_of_measure, 'quantity_change', '-1', 'new_quantity', quantity::text,
        'transaction_type', 'issue', 'storage_location', storage_location, 'to_storage_location', null,
        'quantity_at_location', there::text, 'ticket_id', null, 'cost_center_id', null, 'requisition_id', null,
        'value', value::text, 'currency', currency, 'posted_at', posted_at, 'posted_by', 'admin', 'note', ''),
    1, event_id::text, '00-0123456789abcdef0123456789abcdef-0123456789abcdef-01', transaction_id::text, null
from posted;
"""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What was written in one turn, and the processor time for each issue."""

    per_second: float
    p50_ms: float
    p99_ms: float
    app_ms: float | None = None
    database_ms: float


async def measure(scale: Scale) -> Findings:
    """Measure issues of one material and of many, without relay and workers in the process."""
    async with installation(fast_and_unsafe=False) as installed:
        yardstick = await _prepare(installed)
        bench = _Bench(installed=installed, database=await postmaster_of(installed), yardstick=yardstick, scale=scale)
        rows: list[tuple[Cell, ...]] = [
            _row("busbar, one material", 1, [await bench.busbar(1, materials=1)]),
        ]
        ratios = {}
        for name, materials in (("one material", 1), (f"{MATERIALS} materials", MATERIALS)):
            rounds = [
                (await bench.busbar(CLIENTS, materials=materials), await bench.pgbench(materials))
                for _ in range(ROUNDS)
            ]
            ratios[name] = median([ours.per_second / theirs.per_second for ours, theirs in rounds])
            rows.append(_row(f"busbar, {name}", CLIENTS, [ours for ours, _ in rounds], ratios[name]))
            rows.append(_row(f"pgbench, {name}", CLIENTS, [theirs for _, theirs in rounds]))
        await _check(installed)
    columns = (
        *("by", "connections", "per second", "of pgbench", "p50 ms", "p99 ms"),
        *("app CPU ms each", "PostgreSQL CPU ms each"),
    )
    return Findings(
        tables=(
            Table(title=f"Issues posted; medians of {ROUNDS} rounds with {CLIENTS}", columns=columns, rows=tuple(rows)),
        ),
        goals=tuple(
            at_least(f"busbar, {name}, {CLIENTS} connections: share of pgbench", ratio, RATIO_MIN)
            for name, ratio in ratios.items()
        ),
    )


async def _prepare(installed: Installation) -> str:
    """Make the site and its materials, and a copy of the database for pgbench; returns the copy's address."""
    busbar = await installed.start("serve", "--no-work")
    async with Api(busbar.url) as api:
        await api.post("/api/v1/sites", {"site_id": "north", "name": "Depot North", "modules": ["mm"]})
        for n in range(MATERIALS):
            material = {"material_id": f"MAT-{n}", "description": f"Material {n}", "unit_of_measure": "EA"}
            stock = {"quantity": "100000000", "unit_price": "2.5", "storage_location": "RACK"}
            await api.post("/api/v1/mm/materials", material | stock)
    await busbar.stop()
    connection = await asyncpg.connect(installed.dsn.replace("/busbar?", "/postgres?"))
    await connection.execute("create database yardstick template busbar")
    await connection.close()
    return installed.dsn.replace("/busbar?", "/yardstick?")


async def _check(installed: Installation) -> None:
    """The ledgers must add up to the quantities, or the numbers would say nothing."""
    wrong = await installed.query(
        "select m.material_id from mm.material m join mm.stock_transaction t using (material_id) "
        "group by m.material_id having m.quantity <> sum(t.quantity_change) or m.stock_value <> sum(t.value_change)"
    )
    assert not wrong, f"the ledger does not add up: {wrong[:3]}"


class _Bench(msgspec.Struct, frozen=True, kw_only=True):
    installed: Installation
    database: psutil.Process
    yardstick: str
    scale: Scale

    async def busbar(self, connections: int, *, materials: int) -> Written:
        """Start a Busbar, load it and stop it."""
        busbar = await self.installed.start("serve", "--no-work")
        await self.installed.query("checkpoint")
        url, authorization = f"{busbar.url}/api/v1/mm/stock-transactions", await sign_in(busbar.url)
        asked: dict[str, Any] = {
            "authorization": authorization,
            "connections": connections,
            "bodies": [_issue(n) for n in range(materials)],
        }
        await load(url, seconds=WARM_UP_S, **asked)
        app = psutil.Process(busbar.pid)
        app_s, database_s = cpu_s(app), cpu_s(self.database)
        answers = await load(url, seconds=self.scale.seconds(ROUND_S), **asked)
        written = Written(
            per_second=answers.per_second,
            p50_ms=answers.p50_ms,
            p99_ms=answers.p99_ms,
            app_ms=(cpu_s(app) - app_s) / answers.requests * 1e3,
            database_ms=(cpu_s(self.database) - database_s) / answers.requests * 1e3,
        )
        await busbar.stop()
        return written

    async def pgbench(self, materials: int) -> Written:
        """The same rows, one statement for each issue."""
        await self.installed.query("checkpoint")
        database_s, seconds = cpu_s(self.database), self.scale.seconds(ROUND_S)
        script = _SCRIPT.format(materials_max=materials - 1)
        done = await pgbench(self.yardstick, script, clients=CLIENTS, seconds=seconds)
        return Written(
            per_second=done.per_second,
            p50_ms=done.p50_ms,
            p99_ms=done.p99_ms,
            database_ms=(cpu_s(self.database) - database_s) / (done.per_second * seconds) * 1e3,
        )


def _issue(number: int) -> dict[str, Any]:
    return {"material_id": f"MAT-{number}", "quantity_change": "-1", "transaction_type": "issue"}


def _row(by: str, connections: int, rounds: Sequence[Written], ratio: float | None = None) -> tuple[Cell, ...]:
    def middle(name: str) -> float | None:
        values = [getattr(written, name) for written in rounds]
        return None if None in values else median(values)

    names = ("p50_ms", "p99_ms", "app_ms", "database_ms")
    return (by, connections, middle("per_second"), ratio, *(middle(name) for name in names))
