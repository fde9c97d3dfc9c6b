"""The mapping of a route: a JSON document whose texts that start with `=` are expressions; the rest is taken as it is.

    {"short_description": "=truncate(data.title, 160)",
     "urgency": "=data.severity == 'P1' ? 1 : 2",
     "category": "Network",
     "items": {"=for": "data.parts", "=if": "item.quantity > 0",
               "=each": {"material": "=item.material_id", "line": "=index + 1"}}}

- `"=…"` is an expression over `event` and `data`; its value takes the text's place, whatever its type.
- `"==…"` is a text that starts with one `=`.
- `{"=for": …, "=each": …}` makes a list: the value of `=for` is a list, and `=each` is filled in for every entry, which
  it knows as `item`, with its number `index` from 0; with `=if`, only for entries for which that is true. One such
  block cannot hold another.
- A missing field is an error, never an empty value; `has(data.x) ? data.x : null` says what to do without it.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from busbar.errors import FieldError, InvalidPayload
from busbar.routing.expressions import EVENT_VARIABLES, Expression, ExpressionError, Scope, compile_expression

TEMPLATE_BYTES_MAX = 32_768
TEMPLATE_DEPTH_MAX = 16
EXPRESSIONS_MAX = 200
ITEMS_MAX = 1_000
DOCUMENT_BYTES_MAX = 262_144
CPU_S_MAX = 0.25
"""Processor time for one document. Checked between expressions, each of which is bounded by itself."""
ERRORS_MAX = 20

_ITEM_VARIABLES = EVENT_VARIABLES | {"item", "index"}


class MappingError(InvalidPayload):
    """A mapping cannot be read, or cannot be filled in from this event; `errors` names every bad place at once."""


class DocumentMapping:
    """A compiled mapping."""

    def __init__(self, template: Any) -> None:
        """Compile a template of plain JSON values.

        Raises:
            MappingError: with one FieldError for every bad expression or block, by its path, such as `items[0].name`.
        """
        self._root = _Compiler().compile(template)

    def apply(self, scope: Scope) -> Any:
        """The document for one event, as plain JSON values.

        Raises:
            MappingError: with one FieldError for every expression that fails, or one when the document grows too large.
        """
        run = _Run(scope)
        document = run.fill(self._root, "")
        if run.errors:
            raise MappingError(_summary("cannot be filled in from this event", run.errors), errors=run.errors)
        return document


class _Literal(msgspec.Struct, frozen=True):
    value: Any


class _Leaf(msgspec.Struct, frozen=True):
    expression: Expression


class _Object(msgspec.Struct, frozen=True):
    members: tuple[tuple[str, Any], ...]


class _Array(msgspec.Struct, frozen=True):
    entries: tuple[Any, ...]


class _Each(msgspec.Struct, frozen=True):
    source: Expression
    condition: Expression | None
    body: Any


_Node = _Literal | _Leaf | _Object | _Array | _Each


class _Compiler:
    """Turns a template into nodes and collects every complaint on the way."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self.expressions = 0

    def compile(self, template: Any) -> _Node:
        try:
            encoded = msgspec.json.encode(template)
        except (TypeError, ValueError, RecursionError) as error:
            raise _refusal("", f"The mapping is not a JSON document: {error}.") from error
        if len(encoded) > TEMPLATE_BYTES_MAX:
            raise _refusal("", f"The mapping has {len(encoded)} bytes; at most {TEMPLATE_BYTES_MAX} are taken.")
        root = self._node(template, "", EVENT_VARIABLES, depth=0)
        if self.expressions > EXPRESSIONS_MAX:
            self._complain("", f"The mapping has {self.expressions} expressions; at most {EXPRESSIONS_MAX} are taken.")
        if self.errors:
            raise MappingError(_summary("cannot be used", self.errors), errors=self.errors)
        return root

    def _node(self, value: Any, path: str, variables: frozenset[str], *, depth: int) -> _Node:
        if depth > TEMPLATE_DEPTH_MAX:
            self._complain(path, f"The mapping is nested more than {TEMPLATE_DEPTH_MAX} deep.")
            return _Literal(None)
        match value:
            case str() if value.startswith("=="):
                return _Literal(value[1:])
            case str() if value.startswith("="):
                return self._leaf(value[1:], path, variables)
            case dict() if "=for" in value or "=each" in value:
                return self._each(value, path, variables, depth=depth)
            case dict():
                return self._object(value, path, variables, depth=depth)
            case list() | tuple():
                entries = enumerate(value)
                return _Array(tuple(self._node(v, f"{path}[{i}]", variables, depth=depth + 1) for i, v in entries))
            case _:
                return _Literal(value)

    def _object(self, value: dict[Any, Any], path: str, variables: frozenset[str], *, depth: int) -> _Node:
        members = []
        for key, entry in value.items():
            member = _join(path, str(key))
            if not isinstance(key, str):
                self._complain(member, "Keys must be texts.")
            elif key.startswith("="):
                self._complain(
                    member, "Only values are expressions; among keys, `=for` and `=each` alone start with `=`."
                )
            else:
                members.append((key, self._node(entry, member, variables, depth=depth + 1)))
        return _Object(tuple(members))

    def _each(self, value: dict[str, Any], path: str, variables: frozenset[str], *, depth: int) -> _Node:
        if set(value) - {"=if"} != {"=for", "=each"}:
            self._complain(path, "A block has the members `=for` and `=each`, perhaps `=if`, and no others.")
            return _Literal(None)
        if variables is not EVENT_VARIABLES:
            self._complain(path, "A block cannot hold another block.")
            return _Literal(None)
        source = self._bare(value["=for"], _join(path, "=for"), variables)
        condition = self._bare(value.get("=if", "true"), _join(path, "=if"), _ITEM_VARIABLES)
        body = self._node(value["=each"], _join(path, "=each"), _ITEM_VARIABLES, depth=depth + 1)
        if source is None or condition is None:
            return _Literal(None)
        return _Each(source, condition if "=if" in value else None, body)

    def _bare(self, source: Any, path: str, variables: frozenset[str]) -> Expression | None:
        """The expression of `=for` or `=if`, which is one with or without `=` before it."""
        if not isinstance(source, str):
            self._complain(path, "Write an expression, such as `data.parts` or `item.quantity > 0`.")
            return None
        leaf = self._leaf(source.removeprefix("="), path, variables)
        return leaf.expression if isinstance(leaf, _Leaf) else None

    def _leaf(self, source: str, path: str, variables: frozenset[str]) -> _Node:
        self.expressions += 1
        try:
            return _Leaf(compile_expression(source, variables=variables))
        except ExpressionError as error:
            self._complain(path, error.detail)
            return _Literal(None)

    def _complain(self, path: str, message: str) -> None:
        self.errors.append(FieldError(field=path or "mapping", message=message))


_FAILED = object()


class _Stop(Exception):
    """The document is given up: it is too large, takes too long, or has too many errors."""


class _Run:
    """Fills in one document and keeps its budgets."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.errors: list[FieldError] = []
        self.bytes_left = DOCUMENT_BYTES_MAX
        # Processor time, not the clock on the wall: a busy machine must not fail a good mapping.
        self.cpu_s_end = time.thread_time() + CPU_S_MAX

    def fill(self, root: _Node, path: str) -> Any:
        try:
            return self._value(root, path)
        except _Stop as stop:
            self.errors.append(FieldError(field="mapping", message=str(stop)))
            return None

    def _value(self, node: _Node, path: str) -> Any:
        match node:
            case _Leaf(expression):
                return self._spend(self._evaluate(expression, path))
            case _Object(members):
                return {key: self._value(child, _join(path, key)) for key, child in members}
            case _Array(entries):
                return [self._value(child, f"{path}[{index}]") for index, child in enumerate(entries)]
            case _Each():
                return list(self._entries(node, path))
            case _Literal(value):
                return self._spend(value)

    def _entries(self, block: _Each, path: str) -> Iterator[Any]:
        items = self._evaluate(block.source, _join(path, "=for"))
        if not isinstance(items, list):
            if not self.errors:
                self._fail(
                    _join(path, "=for"), "`=for` must give a list; an object or a single value cannot be walked."
                )
            return
        if len(items) > ITEMS_MAX:
            raise _Stop(f"`{path}` has {len(items)} entries; at most {ITEMS_MAX} are taken.")
        self.scope.widen(items)
        for index, item in enumerate(items):
            self.scope.bind(item=item, index=index)
            if block.condition is None or self._holds(block.condition, f"{path}[{index}].=if"):
                yield self._value(block.body, f"{path}[{index}]")

    def _holds(self, condition: Expression, path: str) -> bool:
        value = self._evaluate(condition, path)
        if not isinstance(value, bool) and value is not _FAILED:
            self._fail(path, "`=if` must be true or false; compare the value, as in `item.quantity > 0`.")
        return value is True

    def _evaluate(self, expression: Expression, path: str) -> Any:
        """The value, or `_FAILED` when the failure has been written down."""
        if time.thread_time() > self.cpu_s_end:
            raise _Stop(f"The mapping takes more than {CPU_S_MAX} s for this event; shorten it, or filter the lists.")
        try:
            return expression.evaluate(self.scope)
        except ExpressionError as error:
            self._fail(path, error.detail)
            return _FAILED

    def _spend(self, value: Any) -> Any:
        if value is _FAILED:
            return None
        self.bytes_left -= len(msgspec.json.encode(value))
        if self.bytes_left < 0:
            raise _Stop(f"The document has more than {DOCUMENT_BYTES_MAX} bytes; map fewer fields.")
        return value

    def _fail(self, path: str, message: str) -> None:
        self.errors.append(FieldError(field=path or "mapping", message=message))
        if len(self.errors) >= ERRORS_MAX:
            raise _Stop(f"Stopped after {ERRORS_MAX} errors.")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _refusal(path: str, message: str) -> MappingError:
    return MappingError(message, errors=[FieldError(field=path or "mapping", message=message)])


def _summary(what: str, errors: Sequence[FieldError]) -> str:
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"The mapping {what}: {first.field}: {first.message}{more}"
