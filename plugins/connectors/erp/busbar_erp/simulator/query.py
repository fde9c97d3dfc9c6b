"""The part of `$filter` and `$orderby` that is simulated, and the literals of keys and function parameters."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

from busbar_erp.model import EntitySet, Field
from busbar_erp.simulator.messages import bad_request
from busbar_erp.values import time_of

Row = Mapping[str, Any]
Test = Callable[[Row], bool]
Term = Callable[[Row], Any]

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*')
    | (?P<typed>(?:datetimeoffset|datetime|time|guid)'[^']*')
    | (?P<number>-?\d+(?:\.\d+)?[MmLlDdFf]?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<mark>[(),=])
    )\s*""",
    re.VERBOSE,
)
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda left, right: left == right,
    "ne": lambda left, right: left != right,
    "gt": lambda left, right: left is not None and left > right,
    "ge": lambda left, right: left is not None and left >= right,
    "lt": lambda left, right: left is not None and left < right,
    "le": lambda left, right: left is not None and left <= right,
}
_EQUALITY = re.compile(r"\s*(\w+) eq '((?:[^']|'')*)'(?:\s|$)")
_TRUTHS = {"true": True, "false": False}
_FUNCTIONS: dict[str, Callable[[str, str], bool]] = {
    "substringof": lambda part, whole: part in whole,
    "startswith": lambda whole, part: whole.startswith(part),
    "endswith": lambda whole, part: whole.endswith(part),
}


def filter_of(text: str, entity_set: EntitySet) -> Test:
    """What a `$filter` tests. Raises ODataError 400."""
    return _Parser(text, entity_set).whole()


def indexable(text: str) -> tuple[str, str] | None:
    """Field and text of a filter's first comparison, if every record that the filter finds must be equal in it."""
    found = _EQUALITY.match(text)
    if found is None or re.search(r"\b(?:or|not)\b", re.sub(r"'(?:[^']|'')*'", "", text)):
        return None
    return found[1], found[2].replace("''", "'")


def order_of(text: str, entity_set: EntitySet) -> list[tuple[str, bool]]:
    """Field names of an `$orderby`, each with whether it falls. Raises ODataError 400."""
    found = []
    for part in filter(None, (part.split() for part in text.split(","))):
        if part[0] not in entity_set.fields or part[1:] not in ([], ["asc"], ["desc"]):
            raise bad_request(f"Property {part[0]} cannot be sorted by.")
        found.append((part[0], part[1:] == ["desc"]))
    return found


def key_of(text: str, entity_set: EntitySet) -> dict[str, Any]:
    """The values in a key predicate, without its brackets. Raises ODataError 400."""
    parts = _tokens(text)
    keys = entity_set.keys
    if len(parts) == 1 and len(keys) == 1:
        return {keys[0]: value_of(parts[0], entity_set.fields[keys[0]])}
    found: dict[str, Any] = {}
    for n in range(0, len(parts), 4):
        if len(parts) < n + 3 or parts[n + 1] != "=" or (len(parts) > n + 3 and parts[n + 3] != ","):
            raise bad_request(f"Invalid key predicate ({text}).")
        if parts[n] in entity_set.fields:
            found[parts[n]] = value_of(parts[n + 2], entity_set.fields[parts[n]])
    if set(found) != set(keys):
        raise bad_request(f"The key predicate ({text}) does not name {', '.join(keys)}.")
    return found


def value_of(token: str, field: Field | None) -> Any:
    """The value of a literal, checked against the field that it is for. Raises ODataError 400."""
    value = _literal(token)
    wanted = {"String": str, "Decimal": Decimal, "Boolean": bool, "Time": time, "Byte": Decimal, "Int32": Decimal}
    kind = wanted.get(field.type, datetime) if field is not None else object
    if not isinstance(value, kind):
        raise bad_request(f"{token} is no literal of Edm.{field.type if field else 'Any'}.")
    return value


class _Parser:
    """Recursive descent over: or > and > not > comparison, function or brackets."""

    def __init__(self, text: str, entity_set: EntitySet) -> None:
        self._tokens = _tokens(text)
        self._set = entity_set
        self._at = 0

    def whole(self) -> Test:
        test = self._or()
        if self._at != len(self._tokens):
            raise bad_request(f"Invalid token {self._tokens[self._at]!r} in the filter.")
        return test

    def _or(self) -> Test:
        tests = [self._and()]
        while self._taken("or"):
            tests.append(self._and())
        return tests[0] if len(tests) == 1 else lambda row: any(test(row) for test in tests)

    def _and(self) -> Test:
        tests = [self._not()]
        while self._taken("and"):
            tests.append(self._not())
        return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)

    def _not(self) -> Test:
        if self._taken("not"):
            test = self._not()
            return lambda row: not test(row)
        if self._taken("("):
            test = self._or()
            self._demand(")")
            return test
        if self._peek() in _FUNCTIONS:
            return self._function()
        return self._comparison()

    def _function(self) -> Test:
        function = _FUNCTIONS[self._next()]
        self._demand("(")
        first = self._term(None)
        self._demand(",")
        second = self._term(None)
        self._demand(")")
        if self._taken("eq"):
            wanted = self._next() == "true"
            return lambda row: function(str(first(row) or ""), str(second(row) or "")) == wanted
        return lambda row: function(str(first(row) or ""), str(second(row) or ""))

    def _comparison(self) -> Test:
        field = self._set.fields.get(self._peek())
        left = self._term(None)
        compare = _COMPARISONS.get(self._next())
        if compare is None:
            raise bad_request(f"Invalid operator {self._tokens[self._at - 1]!r} in the filter.")
        right = self._term(field)
        return lambda row: compare(left(row), right(row))

    def _term(self, field: Field | None) -> Term:
        token = self._next()
        if token in self._set.fields:
            return lambda row: row.get(token)
        if re.fullmatch(r"[A-Za-z_]\w*", token) and token not in ("true", "false"):
            raise bad_request(f"Property {token} not found in type {self._set.name}Type.")
        value = value_of(token, field)
        return lambda row: value

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        if not token:
            raise bad_request("The filter ends too early.")
        self._at += 1
        return token

    def _taken(self, token: str) -> bool:
        if self._peek() != token:
            return False
        self._at += 1
        return True

    def _demand(self, token: str) -> None:
        if not self._taken(token):
            raise bad_request(f"The filter lacks {token!r} before {self._peek()!r}.")


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise bad_request(f"Invalid text {text[at : at + 40]!r} in the request.")
        found.append(match[0].strip())
        at = match.end()
    return found


def _literal(token: str) -> Any:
    if token.startswith("'"):
        return token[1:-1].replace("''", "'")
    if token in _TRUTHS:
        return _TRUTHS[token]
    kind, _, quoted = token.partition("'")
    try:
        if kind in ("datetime", "datetimeoffset"):
            moment = datetime.fromisoformat(quoted.rstrip("'"))
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        if kind == "time":
            found = time_of(quoted.rstrip("'"))
            if found is None:
                raise ValueError(quoted)
            return found
        return Decimal(token.rstrip("MmLlDdFf"))
    except (ValueError, ArithmeticError):
        raise bad_request(f"{token} is no literal.") from None
