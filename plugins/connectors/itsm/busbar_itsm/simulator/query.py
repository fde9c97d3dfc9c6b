"""Encoded queries (sysparm_query): parse them as leniently as ServiceNow does, and answer them from the records."""

import re
from collections.abc import Callable, Iterable
from operator import ge, gt, le, lt

import msgspec

from busbar_itsm.simulator.records import Records, Row, Rows

_CONDITION = re.compile(
    r"([a-z][a-z0-9_.]*)"
    r"(>=|<=|!=|=|>|<|NOT LIKE|NOT IN|DOES NOT CONTAIN|STARTSWITH|ENDSWITH|CONTAINS|LIKE|IN(?!STANCEOF)"
    r"|ISNOTEMPTY|ISEMPTY)"
    r"(.*)",
    re.DOTALL,
)

_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda found, value: found == value,
    "!=": lambda found, value: found != value,
    ">": gt,
    ">=": ge,
    "<": lt,
    "<=": le,
    "LIKE": lambda found, value: value in found,
    "CONTAINS": lambda found, value: value in found,
    "NOT LIKE": lambda found, value: value not in found,
    "DOES NOT CONTAIN": lambda found, value: value not in found,
    "STARTSWITH": lambda found, value: found.startswith(value),
    "ENDSWITH": lambda found, value: found.endswith(value),
    "IN": lambda found, value: found in value.split(","),
    "NOT IN": lambda found, value: found not in value.split(","),
    "ISEMPTY": lambda found, value: not found,
    "ISNOTEMPTY": lambda found, value: bool(found),
}


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison: the field (possibly dot-walked), the operator as written, and the value."""

    field: str
    operator: str
    value: str


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed query: all groups must hold; a group holds if one of its conditions does."""

    groups: tuple[tuple[Condition, ...], ...]
    order: tuple[tuple[str, bool], ...]
    """Field and whether descending, the first one counts most."""
    ignored: tuple[str, ...]
    """Parts that were not understood, or name a field that the table does not have."""


def parse(text: str, known: Callable[[str], bool]) -> Query:
    """Parse an encoded query; `known` tells if a field path exists. Never raises: bad parts are ignored."""
    groups: list[list[Condition]] = []
    order: list[tuple[str, bool]] = []
    ignored: list[str] = []
    for part in filter(None, text.split("^")):
        if part.startswith("ORDERBY"):
            descending = part.startswith("ORDERBYDESC")
            field = part.removeprefix("ORDERBYDESC" if descending else "ORDERBY")
            if known(field):
                order.append((field, descending))
            else:
                ignored.append(part)
            continue
        is_alternative = part.startswith("OR")
        match = _CONDITION.fullmatch(part[2:] if is_alternative else part)
        if match is None or not known(match[1]):
            ignored.append(part)
            if not is_alternative:
                # An alternative that follows an ignored condition must not join the group before it.
                groups.append([])
            continue
        condition = Condition(field=match[1], operator=match[2], value=match[3])
        if is_alternative and groups:
            groups[-1].append(condition)
        else:
            groups.append([condition])
    return Query(groups=tuple(tuple(group) for group in groups if group), order=tuple(order), ignored=tuple(ignored))


def select(records: Records, rows: Rows, query: Query) -> list[Row]:
    """The records that match, in the asked order, else in the order of creation."""
    walk = _walker(records, rows)
    found = [row for row in _candidates(rows, query) if _holds(row, query, walk)]
    for field, descending in reversed(query.order):
        found.sort(key=lambda row, field=field: walk(row, field), reverse=descending)  # type: ignore[misc]  # of a lambda with a default
    return found


def _walker(records: Records, rows: Rows) -> Callable[[Row, str], str]:
    def walk(row: Row, path: str) -> str:
        return row[path] if path in row else dot_walk(records, rows, row, path)[0]

    return walk


def dot_walk(records: Records, rows: Rows, row: Row, path: str) -> tuple[str, Rows | None, str]:
    """Follow a path such as `caller_id.email`: the value, the table it was found in and the last field name.

    Value "" and no table if the path leads nowhere.
    """
    head, dot, rest = path.partition(".")
    if head not in row:
        return "", None, path
    if not dot:
        return row[head], rows, head
    target = records.tables.get(rows.table.references.get(head, ""))
    next_row = target.by_sys_id.get(row[head]) if target else None
    return dot_walk(records, target, next_row, rest) if target and next_row else ("", None, path)


def knows(records: Records, rows: Rows, path: str) -> bool:
    """Tell if a field path exists, whatever the records hold."""
    head, dot, rest = path.partition(".")
    if head not in rows.table.defaults:
        return False
    if not dot:
        return True
    target = records.tables.get(rows.table.references.get(head, ""))
    return target is not None and knows(records, target, rest)


def _candidates(rows: Rows, query: Query) -> Iterable[Row]:
    for group in query.groups:
        if len(group) == 1 and group[0].operator == "=":
            indexed = rows.where(group[0].field, group[0].value)
            # An empty value is not in the index, and may match.
            if indexed is not None and group[0].value:
                return indexed
    return tuple(rows.by_sys_id.values())


def _holds(row: Row, query: Query, walk: Callable[[Row, str], str]) -> bool:
    return all(
        any(_OPERATORS[condition.operator](walk(row, condition.field), condition.value) for condition in group)
        for group in query.groups
    )
