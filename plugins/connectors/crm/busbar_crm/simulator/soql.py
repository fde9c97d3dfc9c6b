"""A small honest part of SOQL: what is not understood is refused, as a real organization does, never skipped.

SELECT fields or COUNT() FROM one object, WHERE with AND, OR, NOT, brackets, = != < <= > >= LIKE IN, NOT IN; ORDER BY,
LIMIT, OFFSET. A field may lead through one reference, such as `Parent.Busbar_Id__c`.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from busbar_crm.simulator.messages import ApiError
from busbar_crm.simulator.objects import OBJECTS, Field, SObject
from busbar_crm.simulator.records import Records, Row

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|\\.)*')|(?P<time>\d{4}-\d{2}-\d{2}T[0-9:.]+(?:Z|[+-]\d{2}:?\d{2}))"
    r"|(?P<number>-?\d+(?:\.\d+)?)|(?P<word>[A-Za-z_][A-Za-z0-9_.]*)|(?P<sign><=|>=|!=|<>|[=<>(),]))"
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda found, value: found < value,
    "<=": lambda found, value: found <= value,
    ">": lambda found, value: found > value,
    ">=": lambda found, value: found >= value,
}

Holds = Callable[[Row], bool]


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed query."""

    kind: SObject
    fields: tuple[tuple[str, ...], ...]
    """Each the names that lead to a field; empty for COUNT()."""
    holds: Holds
    order: tuple[tuple[tuple[str, ...], bool], ...] = ()
    """Path and whether descending; the first counts most."""
    limit: int | None = None
    offset: int = 0


def select(records: Records, query: Query) -> list[Row]:
    """The records that match, in the asked order, else in the order of creation."""
    found = [row for row in records.tables[query.kind.name].values() if query.holds(row)]
    for path, descending in reversed(query.order):
        found.sort(key=lambda row: _sortable(value_at(records, query.kind, row, path)), reverse=descending)
    return found[query.offset :][: query.limit]


def render(records: Records, query: Query, row: Row, *, root: str) -> Row:
    """A record as the answer holds it; `root` is the address of the API's version."""
    shown: Row = {"attributes": attributes(query.kind, row, root)}
    for path in query.fields:
        if len(path) == 1:
            shown[path[0]] = row[path[0]]
            continue
        parent_kind, parent = _parent(records, query.kind, row, path[0])
        if parent is None:
            shown[path[0]] = None
        else:
            member = shown.setdefault(path[0], {"attributes": attributes(parent_kind, parent, root)})
            member[path[1]] = parent[path[1]]
    return shown


def attributes(kind: SObject, row: Row, root: str) -> dict[str, str]:
    """The member `attributes` of every record."""
    return {"type": kind.name, "url": f"{root}/sobjects/{kind.name}/{row['Id']}"}


def value_at(records: Records, kind: SObject, row: Row | None, path: tuple[str, ...]) -> Any:
    """The value at the end of a path; None where it leads nowhere."""
    if row is None or len(path) == 1:
        return None if row is None else row[path[0]]
    parent_kind, parent = _parent(records, kind, row, path[0])
    return value_at(records, parent_kind, parent, path[1:])


def parse(records: Records, text: str) -> Query:
    """Parse a query. Raises ApiError."""
    return _Parser(records, text).query()


class _Parser:
    def __init__(self, records: Records, text: str) -> None:
        self._records = records
        self._tokens = _tokens(text)
        self._at = 0
        self._kind = OBJECTS["case"]

    def query(self) -> Query:
        self._word("SELECT")
        names = [self._name()]
        is_count = names == ["COUNT"]
        if is_count:
            self._sign("(")
            self._sign(")")
        while not is_count and self._sign_if(","):
            names.append(self._name())
        self._word("FROM")
        kind_name = self._name()
        kind = OBJECTS.get(kind_name.casefold())
        if kind is None:
            raise ApiError(400, "INVALID_TYPE", f"sObject type '{kind_name}' is not supported.")
        self._kind = kind
        holds = self._either() if self._word_if("WHERE") else _always
        order: list[tuple[tuple[str, ...], bool]] = []
        if self._word_if("ORDER"):
            self._word("BY")
            order.append(self._direction())
            while self._sign_if(","):
                order.append(self._direction())
        limit = self._count() if self._word_if("LIMIT") else None
        offset = self._count() if self._word_if("OFFSET") else 0
        if self._at < len(self._tokens):
            raise _malformed(f"unexpected token: '{self._tokens[self._at][1]}'")
        fields = () if is_count else tuple(self._path(name) for name in names)
        return Query(kind=kind, fields=fields, holds=holds, order=tuple(order), limit=limit, offset=offset)

    def _either(self) -> Holds:
        parts = [self._all()]
        while self._word_if("OR"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else lambda row: any(part(row) for part in parts)

    def _all(self) -> Holds:
        parts = [self._one()]
        while self._word_if("AND"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda row: all(part(row) for part in parts)

    def _one(self) -> Holds:
        if self._word_if("NOT"):
            inner = self._one()
            return lambda row: not inner(row)
        if self._sign_if("("):
            inner = self._either()
            self._sign(")")
            return inner
        name = self._name()
        path = self._path(name)
        field = self._field(path)
        if not field.filterable:
            raise ApiError(
                400, "INVALID_FIELD", f"field '{field.name}' can not be filtered in a query call", fields=[field.name]
            )
        test = self._test(field)
        return lambda row: test(value_at(self._records, self._kind, row, path))

    def _test(self, field: Field) -> Callable[[Any], bool]:
        if self._word_if("LIKE"):
            pattern = _like(str(self._value()))
            return lambda found: found is not None and pattern.fullmatch(str(found)) is not None
        negated = self._word_if("NOT")
        if self._word_if("IN"):
            self._sign("(")
            values = [_comparable(self._value(), field)]
            while self._sign_if(","):
                values.append(_comparable(self._value(), field))
            self._sign(")")
            return lambda found: (_comparable(found, field) in values) != negated
        sign = self._take("sign")
        value = self._value()
        if sign in ("=", "!=", "<>"):
            wanted = _comparable(value, field)
            return lambda found: (_comparable(found, field) == wanted) == (sign == "=")
        if sign not in _COMPARE or value is None:
            raise _malformed(f"unexpected token: '{sign}'")
        compare, bound = _COMPARE[sign], _comparable(value, field)
        return lambda found: found is not None and compare(_comparable(found, field), bound)

    def _path(self, name: str) -> tuple[str, ...]:
        """The names of a path as the organization spells them. Raises ApiError."""
        head, dot, rest = name.partition(".")
        if not dot:
            return (self._known(self._kind, head).name,)
        for field in self._kind.fields.values():
            if field.relationship.casefold() == head.casefold() and field.refers_to:
                return field.relationship, self._known(OBJECTS[field.refers_to.casefold()], rest).name
        raise ApiError(
            400, "INVALID_FIELD", f"Didn't understand relationship '{head}' in field path for {self._kind.name}"
        )

    def _field(self, path: tuple[str, ...]) -> Field:
        if len(path) == 1:
            return self._known(self._kind, path[0])
        reference = self._kind.fields[f"{path[0]}Id".casefold()]
        return self._known(OBJECTS[reference.refers_to.casefold()], path[1])

    def _known(self, kind: SObject, name: str) -> Field:
        field = kind.field(name)
        if field is None:
            raise ApiError(400, "INVALID_FIELD", f"No such column '{name}' on entity '{kind.name}'.")
        return field

    def _direction(self) -> tuple[tuple[str, ...], bool]:
        path = self._path(self._name())
        descending = self._word_if("DESC")
        if not descending:
            self._word_if("ASC")
        return path, descending

    def _count(self) -> int:
        token = self._take("number")
        if not token.isdecimal():
            raise _malformed(f"unexpected token: '{token}'")
        return int(token)

    def _value(self) -> Any:
        kind, token = self._next()
        if kind == "text":
            return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), token[1:-1], flags=re.DOTALL)
        if kind == "time":
            return token
        if kind == "number":
            return float(token)
        if kind == "word" and token.casefold() in ("true", "false", "null"):
            return {"true": True, "false": False, "null": None}[token.casefold()]
        raise _malformed(f"unexpected token: '{token}'")

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise _malformed("unexpected end of the query")
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, kind: str) -> str:
        found, token = self._next()
        if found != kind:
            raise _malformed(f"unexpected token: '{token}'")
        return token

    def _name(self) -> str:
        name = self._take("word")
        return "COUNT" if name.upper() == "COUNT" else name

    def _word(self, word: str) -> None:
        if not self._word_if(word):
            raise _malformed(f"expecting '{word}'")

    def _word_if(self, word: str) -> bool:
        return self._if("word", word)

    def _sign(self, sign: str) -> None:
        if not self._if("sign", sign):
            raise _malformed(f"expecting '{sign}'")

    def _sign_if(self, sign: str) -> bool:
        return self._if("sign", sign)

    def _if(self, kind: str, token: str) -> bool:
        if self._at < len(self._tokens):
            found = self._tokens[self._at]
            if found[0] == kind and found[1].upper() == token:
                self._at += 1
                return True
        return False


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, at, text = [], 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise _malformed(f"unexpected token: '{text[at:].strip()[:20]}'")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return tokens


def _parent(records: Records, kind: SObject, row: Row, relationship: str) -> tuple[SObject, Row | None]:
    reference = kind.fields[f"{relationship}Id".casefold()]
    parent = OBJECTS[reference.refers_to.casefold()]
    return parent, records.tables[parent.name].get(row[reference.name] or "")


def _comparable(value: Any, field: Field) -> Any:
    """Texts without regard to letter case but ids, times as moments."""
    if isinstance(value, str) and field.type == "datetime":
        return _moment(value)
    return value.casefold() if isinstance(value, str) and field.type not in ("id", "reference") else value


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ApiError(400, "INVALID_FIELD", f"{text} is no dateTime") from None
    if moment.tzinfo is None:
        raise ApiError(400, "INVALID_FIELD", f"{text} is no dateTime")
    return moment


def _like(text: str) -> re.Pattern[str]:
    parts = [".*" if letter == "%" else "." if letter == "_" else re.escape(letter) for letter in text]
    return re.compile("".join(parts), re.IGNORECASE | re.DOTALL)


def _sortable(value: Any) -> tuple[bool, Any]:
    """Empty values come first, as in a real organization."""
    return value is not None, "" if value is None else value


def _always(row: Row) -> bool:
    return True


def _malformed(detail: str) -> ApiError:
    return ApiError(400, "MALFORMED_QUERY", detail)
