"""What does an event cost the relay with 1, 100 and 1,000 published routes?

    uv run python benchmarks/bench_routing.py

Routes are read from a real database and matched with an event of 1 kB, as plant maintenance sends it. In `other` one
route takes the event and the rest want other types; in `filtered` all take its type and all filters but one are false;
in `mapped` all take it and map it. Times are processor time of one thread, without writing the deliveries.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from uuid import UUID

import msgspec

from busbar.db import execute
from busbar.db.embedded import start_embedded
from busbar.events.envelope import StoredEvent
from busbar.routing.matcher import RouteMatcher
from busbar.routing.tests.sample import EVENT
from busbar.testing.database import TestServer, fresh_database

COUNTS = (1, 100, 1_000)
SECONDS_MIN = 0.5
FILTER = "data.severity == 'P1' && data.customers_affected > {}"
MAPPING = {"short_description": "=truncate(data.title, 160)", "urgency": "=data.severity == 'P1' ? 1 : 3"}
_INSERT = """
insert into core.route (route_id, name, sites, pattern, filter, mapping, endpoint_id, state, version, created_at,
    updated_at)
select 'r' || n, 'r' || n, '{}', array[$2 || case when $3 and n > 1 then n::text else '' end],
    replace($4, '{}', case when n = 1 then '0' else '999999' end), $5::jsonb, 'acme', 'published', 1, now(), now()
from generate_series(1, $1) n
"""


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
    """Processor time of one call: the best of five rounds."""
    best = float("inf")
    for _ in range(5):
        calls, start_s = 0, time.thread_time()
        while (spent_s := time.thread_time() - start_s) < SECONDS_MIN / 5:
            work()
            calls += 1
        best = min(best, spent_s / calls)
    return best


async def measure(server: TestServer, case: str, count: int) -> tuple[float, float]:
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


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="busbar-bench-") as name:
        Path(name).chmod(0o755)
        embedded = await start_embedded(Path(name), fast_and_unsafe=True)
        server = TestServer(embedded)
        try:
            print(f"{'case':10} {'routes':>7} {'compile ms':>11} {'µs/event':>9} {'ratio to 1':>10} {'µs/route':>9}")
            for case in ("other", "filtered", "mapped"):
                first_s = 0.0
                for count in COUNTS:
                    compile_s, event_s = await measure(server, case, count)
                    first_s = first_s or event_s
                    print(
                        f"{case:10} {count:7} {compile_s * 1e3:11.1f} {event_s * 1e6:9.1f} {event_s / first_s:10.1f} "
                        f"{event_s / count * 1e6:9.1f}"
                    )
        finally:
            await embedded.stop()


if __name__ == "__main__":
    asyncio.run(main())
