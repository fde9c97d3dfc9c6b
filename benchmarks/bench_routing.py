"""What does an event cost the relay with 1, 100 and 1,000 published routes?

Routes are read from a real database and matched with an event of 1 kB, as plant maintenance sends it. In `other` one
route takes the event and the rest want other types; in `filtered` all take its type and all filters but one are false;
in `mapped` all take it and map it. Times are processor time of one thread, without writing the deliveries.
"""

import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from uuid import UUID

import msgspec

from benchmarks.findings import Cell, Findings, Scale, Table
from busbar.db import execute
from busbar.db.embedded import start_embedded
from busbar.events.envelope import StoredEvent
from busbar.routing.matcher import RouteMatcher
from busbar.routing.tests.sample import EVENT
from busbar.testing.database import TestServer, fresh_database

QUESTION = "What does an event cost the relay with 1, 100 and 1,000 published routes?"
COUNTS = (1, 100, 1_000)
ROUNDS = 5
ROUND_S = 0.1
FILTER = "data.severity == 'P1' && data.customers_affected > {}"
MAPPING = {"short_description": "=truncate(data.title, 160)", "urgency": "=data.severity == 'P1' ? 1 : 3"}
_INSERT = """
insert into core.route (route_id, name, sites, pattern, filter, mapping, endpoint_id, state, version, created_at,
    updated_at)
select 'r' || n, 'r' || n, '{}', array[$2 || case when $3 and n > 1 then n::text else '' end],
    replace($4, '{}', case when n = 1 then '0' else '999999' end), $5::jsonb, 'acme', 'published', 1, now(), now()
from generate_series(1, $1) n
"""


async def measure(scale: Scale) -> Findings:
    """Measure every case with every number of routes; it takes so little time that a quick run is a full one."""
    rows: list[tuple[Cell, ...]] = []
    with tempfile.TemporaryDirectory(prefix="busbar-bench-") as name:
        Path(name).chmod(0o755)
        embedded = await start_embedded(Path(name), fast_and_unsafe=True)
        server = TestServer(embedded)
        try:
            for case in ("other", "filtered", "mapped"):
                first_s = 0.0
                for count in COUNTS:
                    compile_s, event_s = await _measure_case(server, case, count)
                    first_s = first_s or event_s
                    per_route = event_s / count * 1e6
                    rows.append((case, count, compile_s * 1e3, event_s * 1e6, event_s / first_s, per_route))
        finally:
            await embedded.stop()
    columns = ("case", "routes", "compile ms", "µs per event", "to that of 1 route", "µs per route")
    return Findings(tables=(Table(title="Processor time of matching", columns=columns, rows=tuple(rows)),))


class EverywhereEnabled:
    """All modules are enabled at all sites."""

    def enabled(self, site_id: str, module: str) -> bool:
        return True


def an_event() -> StoredEvent:
    return StoredEvent(
        event_id=UUID(EVENT["id"]),
        event_type=EVENT["type"],
        module="pm",
        site_id=EVENT["site"],
        subject=EVENT["subject"],
        time=datetime.fromisoformat(EVENT["time"]),
        data=msgspec.Raw(msgspec.json.encode(EVENT["data"])),
        schema_version=1,
        correlation_id=EVENT["correlationid"],
        traceparent=None,
        actor_id="u-1",
        origin=None,
    )


def seconds_of(work: Callable[[], object]) -> float:
    """Processor time of one call: the best of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        calls, start_s = 0, time.thread_time()
        while (spent_s := time.thread_time() - start_s) < ROUND_S:
            work()
            calls += 1
        best = min(best, spent_s / calls)
    return best


async def _measure_case(server: TestServer, case: str, count: int) -> tuple[float, float]:
    """Seconds to compile all routes, and seconds for one event."""
    event = an_event()
    mapping = msgspec.json.encode(MAPPING).decode() if case == "mapped" else None
    filtered = FILTER if case != "mapped" else None
    async with fresh_database(server):
        await execute(_INSERT, count, event.event_type, case == "other", filtered, mapping)
        matcher = RouteMatcher(EverywhereEnabled())
        start_s = time.thread_time()
        await matcher.refresh()
        compile_s = time.thread_time() - start_s
        wanted = count if case == "mapped" else 1
        assert sum(match.state == "pending" for match in matcher.match(event)) == wanted
        return compile_s, seconds_of(lambda: list(matcher.match(event)))
