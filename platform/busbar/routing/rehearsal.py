"""A dry run with what the platform knows: a stored route or an unsaved rule, a stored event or a pasted one.

Calls no one and writes nothing.
"""

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

import msgspec

from busbar.auth.actor import Context
from busbar.db import fetchrow
from busbar.errors import FieldError
from busbar.events.envelope import CloudEvent
from busbar.events.queries import get_event
from busbar.routing.dry_run import Outcome, StepResult, dry_run
from busbar.routing.matcher import Modules
from busbar.routing.patterns import module_of, site_of
from busbar.routing.rules import RouteRule

_ENDPOINT = """
select sites, runner, active from core.endpoint
where endpoint_id = $1 and ($2::text[] is null or cardinality(sites) = 0 or sites && $2)
"""


class RehearsalStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step on the way from the event to the endpoint."""

    name: Literal["pattern", "filter", "mapping", "module", "origin", "endpoint"]
    result: StepResult
    explanation: str
    """One sentence."""
    value: Any = None
    """The filter's value, or the mapped document."""
    errors: tuple[FieldError, ...] = ()


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What a route would do with an event."""

    outcome: Outcome
    """`would_deliver`; `not_wanted`, because a step stopped it; `failed`, which would be a dead letter."""
    steps: tuple[RehearsalStep, ...]
    document: Any
    """What the endpoint would be given; null when a step before it ended the run."""
    event: dict[str, Any]
    """The CloudEvent that was tried, as the filter and the mapping see it."""


async def rehearse(
    ctx: Context,
    rule: RouteRule,
    event: Mapping[str, Any] | UUID,
    *,
    endpoint_id: str | None,
    modules: Modules,
) -> Rehearsal:
    """Try a rule on a CloudEvent, or on the stored event of that id.

    Without `endpoint_id` the steps that concern the endpoint are left out. Faults become failed steps.

    Raises:
        NotFound: there is no such event, or the actor may not see it.
    """
    origin: str | None = None
    if isinstance(event, UUID):
        view = await get_event(ctx, event)
        origin = view.origin if isinstance(view.origin, str) else None
        shown = msgspec.json.decode(msgspec.json.encode(view))
        event = {name: shown[name] for name in CloudEvent.__struct_fields__ if name in shown}
    tried = dry_run(rule, event)
    steps = [
        RehearsalStep(
            name=step.name, result=step.result, explanation=step.explanation, value=step.value, errors=step.errors
        )
        for step in tried.steps
    ]
    steps.append(_module_step(event, modules))
    if endpoint_id is not None:
        steps.append(_origin_step(origin, endpoint_id))
        steps.append(await _endpoint_step(ctx, event, endpoint_id))
    return Rehearsal(outcome=_outcome(steps), steps=tuple(steps), document=tried.document, event=dict(event))


def _module_step(event: Mapping[str, Any], modules: Modules) -> RehearsalStep:
    site, module = site_of(event), module_of(event)
    if site is None or module is None:
        explanation = "The event names no site and module of Busbar, so it cannot be said whether it is enabled."
        return RehearsalStep(name="module", result="passed", explanation=explanation)
    if modules.enabled(site, module):
        return RehearsalStep(name="module", result="passed", explanation=f"The module {module} is enabled at {site}.")
    explanation = f"The module {module} is not enabled at {site}: its events are not delivered."
    return RehearsalStep(name="module", result="stopped", explanation=explanation)


def _origin_step(origin: str | None, endpoint_id: str) -> RehearsalStep:
    if origin == endpoint_id:
        explanation = f"The change came in from {endpoint_id}, which is not told of it again."
        return RehearsalStep(name="origin", result="stopped", explanation=explanation)
    came_from = "was made here" if origin is None else f"came in from {origin}"
    return RehearsalStep(name="origin", result="passed", explanation=f"The change {came_from}: no echo.")


async def _endpoint_step(ctx: Context, event: Mapping[str, Any], endpoint_id: str) -> RehearsalStep:
    row = await fetchrow(_ENDPOINT, endpoint_id, ctx.actor.site_filter)
    if row is None:
        explanation = f"There is no endpoint {endpoint_id}."
        return RehearsalStep(name="endpoint", result="failed", explanation=explanation)
    site = site_of(event)
    if row["sites"] and site not in row["sites"]:
        explanation = f"The endpoint {endpoint_id} takes no events of {site or 'an unknown site'}."
        return RehearsalStep(name="endpoint", result="stopped", explanation=explanation)
    if not row["active"]:
        explanation = f"The endpoint {endpoint_id} is switched off; the delivery would wait until it is on again."
    elif row["runner"] == "camel":
        explanation = f"Apache Camel would deliver to {endpoint_id}."
    else:
        explanation = f"Busbar would deliver to {endpoint_id}."
    return RehearsalStep(name="endpoint", result="passed", explanation=explanation)


def _outcome(steps: list[RehearsalStep]) -> Outcome:
    results = {step.result for step in steps}
    if "failed" in results:
        return "failed"
    return "not_wanted" if "stopped" in results else "would_deliver"
