"""What a route would do with one event, step by step. Calls no one and writes nothing."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from busbar.errors import FieldError, InvalidPayload
from busbar.routing.expressions import Scope, compile_expression
from busbar.routing.mapping import DocumentMapping
from busbar.routing.patterns import check_pattern
from busbar.routing.rules import RouteRule, field_errors

StepName = Literal["pattern", "filter", "mapping"]
Outcome = Literal["would_deliver", "not_wanted", "failed"]
StepResult = Literal["passed", "stopped", "failed", "not_reached"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a dry run."""

    name: StepName
    result: StepResult
    explanation: str
    """One sentence for the operator."""
    value: Any = None
    """The filter's value, or the mapped document."""
    errors: tuple[FieldError, ...] = ()


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """All steps, and what they come to."""

    outcome: Outcome
    steps: tuple[Step, ...]

    @property
    def document(self) -> Any:
        """What the endpoint would be given; None unless the outcome is `would_deliver`."""
        return self.steps[-1].value if self.outcome == "would_deliver" else None


def dry_run(rule: RouteRule, event: Mapping[str, Any]) -> DryRun:
    """Run a rule, which may be an unfinished draft, on a CloudEvent given as a dict.

    Faults of the rule and of the event become failed steps; nothing is raised for them.
    """
    steps: list[Step] = []
    for name, take in _STEPS:
        if all(step.result == "passed" for step in steps):
            steps.append(_attempt(name, take, rule, event))
        else:
            steps.append(Step(name=name, result="not_reached", explanation="A step before it ended the run."))
    return DryRun(outcome=_outcome(steps), steps=tuple(steps))


def _pattern_step(rule: RouteRule, event: Mapping[str, Any]) -> Step:
    check_pattern(rule.pattern)
    mismatch = rule.pattern.mismatch(event)
    if mismatch:
        return Step(name="pattern", result="stopped", explanation=mismatch)
    return Step(name="pattern", result="passed", explanation=f"The pattern takes {event.get('type')}.")


def _filter_step(rule: RouteRule, event: Mapping[str, Any]) -> Step:
    if rule.filter is None:
        return Step(name="filter", result="passed", explanation="No filter: every event of the pattern goes on.")
    holds = compile_expression(rule.filter).holds(Scope(event))
    return Step(
        name="filter",
        result="passed" if holds else "stopped",
        explanation="The filter is true." if holds else "The filter is false; the route leaves this event alone.",
        value=holds,
    )


def _mapping_step(rule: RouteRule, event: Mapping[str, Any]) -> Step:
    if rule.mapping is None:
        return Step(name="mapping", result="passed", explanation="No mapping: the event goes on as it is.", value=event)
    document = DocumentMapping(rule.mapping).apply(Scope(event))
    return Step(name="mapping", result="passed", explanation="The document for the endpoint.", value=document)


_STEPS: tuple[tuple[StepName, Callable[[RouteRule, Mapping[str, Any]], Step]], ...] = (
    ("pattern", _pattern_step),
    ("filter", _filter_step),
    ("mapping", _mapping_step),
)


def _attempt(
    name: StepName, take: Callable[[RouteRule, Mapping[str, Any]], Step], rule: RouteRule, event: Mapping[str, Any]
) -> Step:
    try:
        return take(rule, event)
    except InvalidPayload as error:
        errors = tuple(field_errors(name, error))
        return Step(name=name, result="failed", explanation=error.detail, errors=errors)


def _outcome(steps: list[Step]) -> Outcome:
    results = {step.result for step in steps}
    if "failed" in results:
        return "failed"
    return "not_wanted" if "stopped" in results else "would_deliver"
