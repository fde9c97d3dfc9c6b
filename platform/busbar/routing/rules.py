"""The rule of a route: which events, which of them, in which shape. Pure; stored routes hold one of these."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from busbar.errors import FieldError, InvalidPayload
from busbar.routing.expressions import Scope, compile_expression
from busbar.routing.mapping import DocumentMapping
from busbar.routing.patterns import EventPattern, check_pattern


class BadRule(InvalidPayload):
    """A route cannot be published: its pattern, filter or mapping is wrong; `errors` names every bad place."""


class RouteRule(msgspec.Struct, frozen=True, kw_only=True):
    """What a route does with events, as an operator writes it."""

    pattern: EventPattern = EventPattern()
    filter: str | None = None
    """CEL over `event` and `data`; the event is delivered when it is true. Null takes every event of the pattern."""
    mapping: Any = None
    """JSON document with `=` expressions (see `mapping.py`); null hands the CloudEvent on as it is."""


class CompiledRule:
    """A rule ready to run on many events; may be shared by threads."""

    def __init__(self, rule: RouteRule) -> None:
        """Compile all parts.

        Raises:
            BadRule: with every fault of the pattern, the filter and the mapping at once.
        """
        errors: list[FieldError] = []
        with _collect("pattern", errors):
            check_pattern(rule.pattern)
        with _collect("filter", errors):
            self._filter = None if rule.filter is None else compile_expression(rule.filter)
        with _collect("mapping", errors):
            self._mapping = None if rule.mapping is None else DocumentMapping(rule.mapping)
        if errors:
            raise BadRule("The route cannot be used; see errors.", errors=errors)
        self.rule = rule

    def wants(self, event: Mapping[str, Any], scope: Scope) -> bool:
        """Whether the pattern matches and the filter is true. `scope` is made of the same event, once for all routes.

        Raises:
            ExpressionError: the filter fails on this event.
        """
        return self.rule.pattern.matches(event) and (self._filter is None or self._filter.holds(scope))

    def document(self, event: Mapping[str, Any], scope: Scope) -> Any:
        """What is handed to the endpoint.

        Raises:
            MappingError: the mapping cannot be filled in from this event.
        """
        return dict(event) if self._mapping is None else self._mapping.apply(scope)


def field_errors(part: str, error: InvalidPayload) -> list[FieldError]:
    """The places of a fault, named from the rule down: `filter`, `pattern.types[0]`, `mapping.items[2].name`."""
    if not error.errors:
        return [FieldError(field=part, message=error.detail)]
    return [
        FieldError(field=part if fault.field == part else f"{part}.{fault.field}", message=fault.message)
        for fault in error.errors
    ]


@contextmanager
def _collect(part: str, errors: list[FieldError]) -> Iterator[None]:
    try:
        yield
    except InvalidPayload as error:
        errors.extend(field_errors(part, error))
