"""What a changed route would have done with the latest events, beside what it says now. Calls no one, writes nothing.

It looks at pattern, filter and mapping, and knows echoes. Which modules and endpoints were switched on at the time is
not known any more, so it is not looked at.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from busbar.auth.actor import Context
from busbar.db import fetch
from busbar.errors import InvalidPayload
from busbar.events.access import reach_of
from busbar.events.envelope import COLUMNS, StoredEvent, as_dict, stored
from busbar.routing.definition import Difference, differences
from busbar.routing.dry_run import dry_run
from busbar.routing.expressions import Scope
from busbar.routing.rules import CompiledRule, RouteRule
from busbar.web.conditions import Where

EVENTS_MAX: Final = 1_000
EVENTS: Final = 200
LOOK_BACK: Final = 50_000
"""So many positions of the stream are searched for events of the types that are asked for."""
CHANGES_MAX: Final = 100
SECONDS_MAX: Final = 10.0
"""After so long it ends with what it has; other requests have their turn meanwhile."""

Result = Literal["would_deliver", "not_wanted", "failed", "echo"]


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the events would have gone where."""

    would_deliver: int = 0
    not_wanted: int = 0
    """The pattern or the filter says no."""
    failed: int = 0
    """They would have been dead letters."""
    echo: int = 0
    """They came in from the endpoint itself, which is not told of them."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """An event with which the two would have done different things."""

    event_id: UUID
    type: str
    subject: str
    site: str
    time: datetime
    before: Result | None
    """What the route as it is would have done; null when there is none."""
    after: Result
    explanation: str
    """The step at which the new rule ends, in one sentence."""
    differences: tuple[Difference, ...] = ()
    """Between the two documents, if both would be delivered."""


class BackTest(msgspec.Struct, frozen=True, kw_only=True):
    """What would be different."""

    events: int
    """So many were tried: the latest of the types and sites that the two ask for, of those that the caller may see."""
    complete: bool
    """False when time was up before all that were asked for."""
    since: datetime | None
    """When the oldest of them happened."""
    before: Tally | None
    after: Tally
    changed: int
    changes: tuple[Change, ...]
    """The latest `CHANGES_MAX` of them."""


async def back_test(
    ctx: Context, rule: RouteRule, *, beside: RouteRule | None, endpoint_id: str | None, events: int = EVENTS
) -> BackTest:
    """Try `rule` on the latest events, and `beside`, which is what holds now, on the same ones.

    `endpoint_id` is where the route leads: what came in from there is an echo. Faults of a rule are counted, and not
    raised.
    """
    found = await _latest(ctx, [rule] if beside is None else [rule, beside], events)
    until_s = time.monotonic() + SECONDS_MAX
    new, old = _Tried(rule, endpoint_id), None if beside is None else _Tried(beside, endpoint_id)
    changes: list[Change] = []
    tried = changed = 0
    for event in found:
        document = as_dict(event)
        after = new.look_at(event, document)
        before = None if old is None else old.look_at(event, document)
        found_differences = _differences(before, after)
        if not _same(before, after) or found_differences:
            changed += 1
            if changed <= CHANGES_MAX:
                changes.append(_change(event, rule, document, before, after, found_differences))
        tried += 1
        await asyncio.sleep(0)
        if time.monotonic() > until_s:
            break
    return BackTest(
        events=tried,
        complete=tried == len(found),
        since=found[tried - 1].time if tried else None,
        before=None if old is None else _tally(old.results),
        after=_tally(new.results),
        changed=changed,
        changes=tuple(changes),
    )


class _Outcome(msgspec.Struct, frozen=True):
    result: Result
    document: Any = None


class _Tried:
    """A rule, compiled once for all events."""

    def __init__(self, rule: RouteRule, endpoint_id: str | None) -> None:
        self.results: list[Result] = []
        self._endpoint_id = endpoint_id
        self._compiled: CompiledRule | None = None
        with contextlib.suppress(InvalidPayload):  # every event then fails, and its dry run says why
            self._compiled = CompiledRule(rule)

    def look_at(self, event: StoredEvent, document: dict[str, Any]) -> _Outcome:
        outcome = self._outcome(document)
        if outcome.result == "would_deliver" and self._endpoint_id is not None and event.origin == self._endpoint_id:
            outcome = _Outcome("echo")
        self.results.append(outcome.result)
        return outcome

    def _outcome(self, document: dict[str, Any]) -> _Outcome:
        if self._compiled is None:
            return _Outcome("failed")
        try:
            if not self._compiled.rule.pattern.matches(document):
                return _Outcome("not_wanted")
            scope = Scope(document)
            if not self._compiled.wants(document, scope):
                return _Outcome("not_wanted")
            return _Outcome("would_deliver", self._compiled.document(document, scope))
        except InvalidPayload:
            return _Outcome("failed")


async def _latest(ctx: Context, rules: Sequence[RouteRule], count: int) -> list[StoredEvent]:
    """The latest events that the rules' patterns ask for, newest first."""
    where = Where()
    where.add_plain(f"position > (select coalesce(max(position), 0) from core.event) - {LOOK_BACK}")
    where.add("event_type like any({}::text[])", [_like(each) for rule in rules for each in rule.pattern.types])
    if all(rule.pattern.sites for rule in rules):
        where.add("site_id = any({}::text[])", sorted({site for rule in rules for site in rule.pattern.sites}))
    reach_of(ctx.actor).narrow(where, site="site_id", module="module")
    where.values.append(count)
    rows = await fetch(
        f"select {COLUMNS} from core.event where {where.sql} order by position desc limit ${len(where.values)}",
        *where.values,
    )
    return [stored(row) for row in rows]


def _like(pattern: str) -> str:
    """A pattern of event types as one of LIKE."""
    escaped = pattern.removesuffix("*").replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped + "%" if pattern.endswith("*") else escaped


def _tally(results: Sequence[Result]) -> Tally:
    return Tally(**{name: results.count(name) for name in Tally.__struct_fields__})


def _same(before: _Outcome | None, after: _Outcome) -> bool:
    """Whether the same becomes of the event; beside nothing, whether nothing does."""
    return after.result == ("not_wanted" if before is None else before.result)


def _differences(before: _Outcome | None, after: _Outcome) -> tuple[Difference, ...]:
    """Between the two documents, if both would be delivered."""
    if before is None or not before.result == after.result == "would_deliver":
        return ()
    return differences(_members(before.document), _members(after.document))


def _change(
    event: StoredEvent,
    rule: RouteRule,
    document: dict[str, Any],
    before: _Outcome | None,
    after: _Outcome,
    found: tuple[Difference, ...],
) -> Change:
    steps = dry_run(rule, document).steps
    ended = next((step for step in steps if step.result != "passed"), steps[-1])
    return Change(
        event_id=event.event_id,
        type=event.event_type,
        subject=event.subject,
        site=event.site_id,
        time=event.time,
        before=None if before is None else before.result,
        after=after.result,
        explanation="The change came in from the endpoint." if after.result == "echo" else ended.explanation,
        differences=found,
    )


def _members(document: Any) -> dict[str, Any]:
    """The document as an object, for one that is none is a fault that the endpoint would find."""
    return document if isinstance(document, dict) else {"": document}
