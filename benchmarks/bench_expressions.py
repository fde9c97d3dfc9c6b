"""How many 1 kB events per second can one core filter and map?

One thread, no database; docs/decisions/0003-filter-and-map-with-cel.md says what hangs on it.
"""

import time
from collections.abc import Callable

import msgspec

from benchmarks.findings import Findings, Scale, Table
from busbar.routing.expressions import Scope, compile_expression
from busbar.routing.rules import CompiledRule, RouteRule
from busbar.routing.tests.sample import EVENT

QUESTION = "How many 1 kB events per second can one core filter and map?"
ROUND_S = 1.0
ROUNDS = 3

FILTER = (
    "event.type == 'PM_TICKET_CREATED' && data.severity in ['P1', 'P2'] && data.customers_affected > 100 "
    "&& data.asset.asset_type == 'transformer'"
)
MAPPING = {
    "short_description": "=truncate(data.title, 160)",
    "description": "=data.description",
    "correlation_id": "=data.ticket_id",
    "urgency": "=data.severity == 'P1' ? '1' : '2'",
    "impact": "=data.customers_affected > 1000 ? '1' : '2'",
    "cmdb_ci": "=data.asset.asset_id",
    "caller_id": "=data.reported_by",
    "opened_at": "=event.time",
    "category": "='network / ' + data.asset.asset_type",
    "u_site": "=event.site",
}


async def measure(scale: Scale) -> Findings:
    """Measure each step by itself."""
    rule = CompiledRule(RouteRule(filter=FILTER, mapping=MAPPING))
    expression = compile_expression(FILTER)
    scope = Scope(EVENT)
    assert rule.wants(EVENT, scope)
    assert rule.document(EVENT, scope)["opened_at"] == "2026-11-23T08:15:30Z"

    def route() -> None:
        fresh = Scope(EVENT)
        rule.wants(EVENT, fresh)
        rule.document(EVENT, fresh)

    steps: dict[str, Callable[[], object]] = {
        "prepare an event (once, for all routes)": lambda: Scope(EVENT),
        "filter a prepared event": lambda: expression.holds(scope),
        "map a prepared event, 10 fields": lambda: rule.document(EVENT, scope),
        "prepare, filter and map": route,
        "compile a filter with all its checks": lambda: compile_expression(FILTER),
    }
    round_s = ROUND_S / 10 if scale.quick else ROUND_S
    title = f"An event of {len(msgspec.json.encode(EVENT))} bytes; one thread; best of {ROUNDS} rounds of {round_s:g} s"
    rows = tuple((step, per_second(action, round_s)) for step, action in steps.items())
    return Findings(tables=(Table(title=title, columns=("step", "per second"), rows=rows),))


def per_second(action: Callable[[], object], round_s: float) -> float:
    """Calls per second, the best of some rounds: what disturbs a round only ever makes it slower."""
    best = 0.0
    for _ in range(ROUNDS):
        calls, start_s = 0, time.perf_counter()
        while (elapsed_s := time.perf_counter() - start_s) < round_s:
            for _ in range(20):
                action()
            calls += 20
        best = max(best, calls / elapsed_s)
    return best
