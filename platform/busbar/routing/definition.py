"""What an operator says of a route, as it is stored with every version, and how two versions differ."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from busbar.routing.patterns import EventPattern
from busbar.routing.rules import RouteRule

State = Literal["draft", "published", "off"]
ATTEMPTS_MAX_DEFAULT = 12
DIFFERENCES_MAX = 500


class RouteDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of a route but its state."""

    name: str
    sites: tuple[str, ...] = ()
    """Ids of sites; empty for all."""
    pattern: tuple[str, ...]
    """Event types: one name per entry, a prefix such as `PM_*`, or `*`."""
    filter: str | None = None
    mapping: dict[str, Any] | None = None
    endpoint_id: str
    attempts_max: int = ATTEMPTS_MAX_DEFAULT

    @property
    def rule(self) -> RouteRule:
        """The part that looks at events."""
        pattern = EventPattern(types=self.pattern, sites=self.sites)
        return RouteRule(pattern=pattern, filter=self.filter, mapping=self.mapping)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One place in which two versions differ."""

    field: str
    """Its path, such as `filter` or `mapping.items[0].name`."""
    kind: Literal["added", "removed", "changed"]
    before: Any = None
    after: Any = None


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Difference, ...]:
    """The places in which two JSON objects differ, by path; the first `DIFFERENCES_MAX` of them.

    Objects are compared member by member and lists entry by entry; a change of type is one change of the whole.
    """
    found: list[Difference] = []
    for difference in _compare(before, after, ""):
        found.append(difference)
        if len(found) == DIFFERENCES_MAX:
            break
    return tuple(found)


def as_stored(definition: RouteDefinition) -> dict[str, Any]:
    """The definition as the JSON object that is kept and compared."""
    stored: dict[str, Any] = msgspec.to_builtins(definition)
    return stored


def _compare(before: Any, after: Any, path: str) -> Iterator[Difference]:
    match before, after:
        case dict(), dict():
            for key in dict.fromkeys([*before, *after]):
                member = f"{path}.{key}" if path else key
                if key not in after:
                    yield Difference(field=member, kind="removed", before=before[key])
                elif key not in before:
                    yield Difference(field=member, kind="added", after=after[key])
                else:
                    yield from _compare(before[key], after[key], member)
        case list(), list():
            for index in range(max(len(before), len(after))):
                entry = f"{path}[{index}]"
                if index >= len(after):
                    yield Difference(field=entry, kind="removed", before=before[index])
                elif index >= len(before):
                    yield Difference(field=entry, kind="added", after=after[index])
                else:
                    yield from _compare(before[index], after[index], entry)
        case _:
            # True == 1 in Python, and they are not the same in JSON.
            if before != after or isinstance(before, bool) != isinstance(after, bool):
                yield Difference(field=path, kind="changed", before=before, after=after)
