"""Does a page of tickets cost the same with a million of them as with a thousand?

The tickets are inserted by one statement; then pages of 50 are asked for over HTTP by wrk. The last column is the p99
over one connection, divided by that with the fewest tickets.
"""

import asyncpg
from acceptance.api import Api
from acceptance.processes import installation

from benchmarks.findings import Cell, Findings, Scale, Table, at_most
from benchmarks.load import load, sign_in

QUESTION = "Does a page of tickets cost the same with a million of them as with a thousand?"
SIZES = (1_000, 100_000, 1_000_000)
SITES = 20
ROUND_S = 5.0
RATIO_MAX = 1.5
INSERT_S_MAX = 1_800

PAGES = {
    "newest": "",
    "of a status (1 in 10)": "&status=Open",
    "of a site (1 in 20)": "&site=site-07",
    "of a person (60 tickets, the oldest)": "&assignee=mia",
    "with a rare word (60 tickets, the oldest)": "&text=kingfisher",
    "with a common word (1 in 20)": "&text=lightning",
}

_INSERT = """
insert into core.ticket (ticket_id, module, ticket_type, title, description, priority, status, site_id, assignee,
    created_by, created_at, updated_at, sla_deadline, object_kind, object_id, correlation_id)
select 'TKT-PM-20260101-' || lpad(n::text, 7, '0'), 'pm', 'Incident', 'Outage at TRF-' || n % 5000 || ': Report ' || n,
    'Customer at street ' || n % 9973 || ' has no supply'
        || case when n % 20 = 3 then ' after lightning' else '' end
        || case when n <= 960 and n % 16 = 5 then ', kingfisher on the line' else '' end,
    'P' || 1 + n % 4, case when n % 10 = 0 then 'Open' when n % 10 = 1 then 'Assigned' else 'Closed' end,
    'site-' || lpad((n % {sites})::text, 2, '0'),
    case when n <= 960 and n % 16 = 5 then 'mia' when n % 10 < 3 then 'user-' || n % 50 end,
    'admin', at, at, at + interval '8 hours', 'incident', md5(n::text), md5(n::text)
from (select n, timestamptz '2026-01-01' + n * interval '10 seconds' as at from generate_series($1::int, $2::int) n) s
"""


async def measure(scale: Scale) -> Findings:
    """Measure every page at every size."""
    rows: list[tuple[Cell, ...]] = []
    first: dict[str, float] = {}
    ratios: dict[str, float] = {}
    async with installation() as installed:
        busbar = await installed.start("serve", "--no-work")
        async with Api(busbar.url) as api:
            for n in range(SITES):
                await api.post("/api/v1/sites", {"site_id": f"site-{n:02}", "name": f"Site {n}", "modules": ["pm"]})
        stored = 0
        for size in sorted({max(1_000, scale.count(size)) for size in SIZES}):
            await _insert(installed.dsn, stored + 1, size)
            stored = size
            for name, parameters in PAGES.items():
                url = f"{busbar.url}/api/v1/tickets?limit=50{parameters}"
                one, many = [
                    await load(
                        url,
                        authorization=await sign_in(busbar.url),
                        connections=connections,
                        seconds=scale.seconds(ROUND_S),
                    )
                    for connections in (1, 16)
                ]
                first.setdefault(name, one.p99_ms)
                ratios[name] = one.p99_ms / first[name]
                rows.append(
                    (name, size, one.p50_ms, one.p99_ms, many.p50_ms, many.p99_ms, many.per_second, ratios[name])
                )
    columns = (
        *("page", "tickets", "p50 ms, 1 connection", "p99 ms, 1 connection", "p50 ms, 16", "p99 ms, 16"),
        *("per second, 16", "p99 to that of 1,000"),
    )
    by_page = sorted(rows, key=lambda row: list(PAGES).index(str(row[0])))
    return Findings(
        tables=(Table(title="GET /api/v1/tickets?limit=50", columns=columns, rows=tuple(by_page)),),
        goals=tuple(
            at_most(f"page {name}: p99 with {stored:,} tickets to that with 1,000", ratio, RATIO_MAX)
            for name, ratio in ratios.items()
        ),
    )


async def _insert(dsn: str, first: int, last: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_INSERT.format(sites=SITES), first, last, timeout=INSERT_S_MAX)
        # Vacuumed as autovacuum would within minutes, so that indexes alone answer what they can. Rows can be marked
        # as visible to all only when their commit has been written out, which the server does late here.
        await connection.execute("checkpoint")
        await connection.execute("vacuum analyze core.ticket", timeout=INSERT_S_MAX)
    finally:
        await connection.close()
