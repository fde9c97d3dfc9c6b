"""How many 1 kB events per second can one core filter and map?

Run it with `uv run python benchmarks/bench_expressions.py`. It takes about fifteen seconds, needs no database, and
prints one line per question; the last results stand in docs/decisions/0003-filter-and-map-with-cel.md.
"""

import time
from collections.abc import Callable

import msgspec

from busbar.routing.expressions import Scope, compile_expression
from busbar.routing.rules import CompiledRule, RouteRule
from busbar.routing.tests.sample import EVENT

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


def per_second(action: Callable[[], object]) -> float:
    """Calls per second, the best of some rounds: what disturbs a round only ever makes it slower."""
    best = 0.0
    for _ in range(ROUNDS):
        calls, start_s = 0, time.perf_counter()
        while (elapsed_s := time.perf_counter() - start_s) < ROUND_S:
            for _ in range(20):
                action()
            calls += 20
        best = max(best, calls / elapsed_s)
    return best


def main() -> None:
    """Print the table."""
    rule = CompiledRule(RouteRule(filter=FILTER, mapping=MAPPING))
    expression = compile_expression(FILTER)
    scope = Scope(EVENT)
    assert rule.wants(EVENT, scope)
    assert rule.document(EVENT, scope)["opened_at"] == "2026-11-23T08:15:30Z"

    def route() -> None:
        fresh = Scope(EVENT)
        rule.wants(EVENT, fresh)
        rule.document(EVENT, fresh)

    questions: dict[str, Callable[[], object]] = {
        "prepare an event (once, for all routes)": lambda: Scope(EVENT),
        "filter a prepared event": lambda: expression.holds(scope),
        "map a prepared event, 10 fields": lambda: rule.document(EVENT, scope),
        "prepare, filter and map": route,
        "compile a filter with all its checks": lambda: compile_expression(FILTER),
    }
    print(f"event: {len(msgspec.json.encode(EVENT))} bytes; one thread; best of {ROUNDS} rounds of {ROUND_S:.0f} s")
    for question, action in questions.items():
        print(f"{question:42} {per_second(action):>10,.0f} per second")


if __name__ == "__main__":
    main()
