from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busbar.routing.dry_run import DryRun, Step, dry_run
from busbar.routing.expressions import Scope
from busbar.routing.patterns import EventPattern
from busbar.routing.rules import BadRule, CompiledRule, RouteRule
from busbar.routing.tests.sample import EVENT

RULE = RouteRule(
    pattern=EventPattern(types=("PM_*",)),
    filter="data.severity in ['P1', 'P2']",
    mapping={"short_description": "=data.title", "urgency": "=data.severity == 'P1' ? 1 : 2"},
)
DOCUMENT = {"short_description": "Übergabestation Süd: oil temperature high", "urgency": 1}


def steps_of(run: DryRun) -> dict[str, Step]:
    return {step.name: step for step in run.steps}


class TestDryRun:
    def test_shows_the_document_when_all_steps_pass(self) -> None:
        run = dry_run(RULE, EVENT)
        assert run.outcome == "would_deliver"
        assert [(step.name, step.result) for step in run.steps] == [
            ("pattern", "passed"),
            ("filter", "passed"),
            ("mapping", "passed"),
        ]
        assert run.document == DOCUMENT

    def test_shows_the_event_itself_when_there_is_no_mapping(self) -> None:
        run = dry_run(RouteRule(), EVENT)
        assert run.outcome == "would_deliver"
        assert run.document == EVENT

    def test_ends_at_the_pattern(self) -> None:
        run = dry_run(RULE, {**EVENT, "type": "MM_STOCK_CHANGED"})
        assert run.outcome == "not_wanted"
        assert [step.result for step in run.steps] == ["stopped", "not_reached", "not_reached"]
        assert "type is MM_STOCK_CHANGED; the route wants PM_*" in run.steps[0].explanation
        assert run.document is None

    def test_ends_at_a_false_filter(self) -> None:
        run = dry_run(RULE, {**EVENT, "data": {"severity": "P4"}})
        assert run.outcome == "not_wanted"
        assert steps_of(run)["filter"].value is False
        assert steps_of(run)["mapping"].result == "not_reached"

    def test_shows_why_a_filter_fails_on_this_event(self) -> None:
        run = dry_run(RULE, {**EVENT, "data": {}})
        assert run.outcome == "failed"
        assert "no `severity` in this event" in steps_of(run)["filter"].explanation

    def test_shows_every_field_that_cannot_be_mapped(self) -> None:
        rule = RouteRule(mapping={"a": "=data.nope", "b": ["=data.nada"], "c": "=data.severity"})
        mapping = steps_of(dry_run(rule, EVENT))["mapping"]
        assert mapping.result == "failed"
        assert [error.field for error in mapping.errors] == ["mapping.a", "mapping.b[0]"]

    def test_takes_a_draft_with_a_bad_filter(self) -> None:
        run = dry_run(RouteRule(filter="data.severity ="), EVENT)
        assert run.outcome == "failed"
        assert steps_of(run)["pattern"].result == "passed"
        assert "is no operator" in steps_of(run)["filter"].explanation

    def test_takes_a_draft_with_a_bad_pattern(self) -> None:
        run = dry_run(RouteRule(pattern=EventPattern(types=("PM_*,MM_*",))), EVENT)
        assert run.outcome == "failed"
        assert [error.field for error in run.steps[0].errors] == ["pattern.types[0]"]

    @pytest.mark.parametrize("event", [{}, {"type": "PM_X", "data": "a" * 70_000}, {"type": "PM_X", "time": "soon"}])
    def test_a_strange_event_is_a_failed_or_stopped_step(self, event: dict[str, Any]) -> None:
        assert dry_run(RULE, event).outcome in ("failed", "not_wanted")

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
    def test_never_raises(self, pattern: str, condition: str, leaf: str) -> None:
        rule = RouteRule(pattern=EventPattern(types=("*", pattern)), filter=condition, mapping={"a": "=" + leaf})
        assert dry_run(rule, EVENT).outcome in ("would_deliver", "not_wanted", "failed")
        rule = RouteRule(filter="true", mapping={"a": "=" + leaf})
        assert dry_run(rule, EVENT).outcome in ("would_deliver", "failed")


class TestCompiledRule:
    def test_decides_as_the_dry_run_does(self) -> None:
        compiled = CompiledRule(RULE)
        scope = Scope(EVENT)
        assert compiled.wants(EVENT, scope)
        assert compiled.document(EVENT, scope) == DOCUMENT
        other = {**EVENT, "type": "MM_STOCK_CHANGED"}
        assert not compiled.wants(other, Scope(other))

    def test_names_every_fault_of_the_rule_at_once(self) -> None:
        rule = RouteRule(
            pattern=EventPattern(types=("a b",)), filter="1 +", mapping={"x": "=nope", "y": {"z": "=data.a.map(b, b)"}}
        )
        with pytest.raises(BadRule) as refused:
            CompiledRule(rule)
        assert [error.field for error in refused.value.errors] == [
            "pattern.types[0]",
            "filter",
            "mapping.x",
            "mapping.y.z",
        ]
