"""CEL expressions over one event: compile with limits, evaluate without ever stalling or ending the process.

An expression sees `event` (the envelope) and `data` (the payload). The limits are in `limits.py`, the added text
functions in `functions.py`, the reasons in docs/decisions/0003-filter-and-map-with-cel.md.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from math import isfinite
from typing import Any, NoReturn

import cel
import msgspec

from busbar.routing import functions
from busbar.routing.limits import FUNCTIONS, WORK_MAX, Shape, measure
from busbar.routing.tokens import ExpressionError, place, tokens_of

__all__ = ["EVENT_VARIABLES", "Expression", "ExpressionError", "Scope", "compile_expression"]

EVENT_VARIABLES = frozenset({"event", "data"})
ENVELOPE = ("id", "type", "source", "subject", "time", "site", "correlationid")
"""Attributes of `event` that are always there; null when the event has none."""

EVENT_BYTES_MAX = 65_536
EVENT_VALUES_MAX = 10_000
EVENT_DEPTH_MAX = 64

_INT64 = range(-(2**63), 2**63)
_LONG_NUMBER = re.compile(rb"[0-9]{19}")


class Scope:
    """One event, converted once for all the expressions that look at it. Belongs to one thread."""

    def __init__(self, event: Mapping[str, Any]) -> None:
        """Take a CloudEvent as a dict.

        Raises:
            ExpressionError: the event is larger, deeper or stranger than expressions may look at.
        """
        document, encoded = _plain_event(event)
        values = _values_in(encoded)
        if values > EVENT_VALUES_MAX:
            raise ExpressionError(
                f"The event holds about {values} values; expressions look at no more than {EVENT_VALUES_MAX}."
            )
        self.size = _size_of(encoded)
        """Values of the event, plus one for every 64 bytes: what `Shape.work` multiplies."""
        self._document = document
        self._longest: int | None = None
        data = document.pop("data", {})
        envelope = dict.fromkeys(ENVELOPE) | document
        envelope["time"] = _timestamp(envelope["time"])
        self._context = cel.Context(variables={"event": envelope, "data": data}, functions=functions.FUNCTIONS)
        self._data = data

    @property
    def longest(self) -> int:
        """Entries of the longest list or object in the event."""
        if self._longest is None:
            self._longest = max(len(container) for container in _containers([self._document, self._data]))
        return self._longest

    def widen(self, values: list[Any]) -> None:
        """Count these values too before they are bound: an expression may have made them larger than the event."""
        self.size = max(self.size, _size_of(msgspec.json.encode(values)))
        self._longest = max(self.longest, *(len(container) for container in _containers(values)))

    def bind(self, **values: Any) -> None:
        """Give expressions further names, such as `item`, for values of the event or of `widen`."""
        for name, value in values.items():
            self._context.add_variable(name, value)


class Expression:
    """One compiled expression; may be evaluated by several threads, each with its own `Scope`."""

    def __init__(self, *, source: str, shape: Shape, program: cel.Program) -> None:
        self.source = source
        self.shape = shape
        self._program = program

    def evaluate(self, scope: Scope) -> Any:
        """The value of the expression for this event: plain JSON values; times as RFC 3339 texts in UTC.

        Raises:
            ExpressionError: a field is missing, the types do not fit, the work would be too much, or the result is
                not a JSON value.
        """
        work = self.shape.work(size=scope.size, longest=scope.longest if self.shape.walks else 0)
        if work > WORK_MAX:
            raise ExpressionError(
                f"This event is too large for the expression (work {work}, at most {WORK_MAX}): "
                "shorten it, or take `event` and `data` out of exists, all, exists_one and filter."
            )
        return _json_value(_run(self._program.execute, scope._context, source=self.source))

    def holds(self, scope: Scope) -> bool:
        """Whether a filter is true for this event.

        Raises:
            ExpressionError: as `evaluate`, and when the value is neither true nor false.
        """
        value = self.evaluate(scope)
        if not isinstance(value, bool):
            raise ExpressionError(
                f"The filter gives {_shown(value)}, not true or false; compare it, as in `data.severity == 'P1'`."
            )
        return value


def compile_expression(source: str, *, variables: frozenset[str] = EVENT_VARIABLES) -> Expression:
    """Read and check an expression.

    Args:
        source: CEL, at most 2,000 characters.
        variables: names it may use.

    Raises:
        ExpressionError: with the place of the fault and its cure.
    """
    shape = measure(source, variables=variables)
    program = _run(cel.compile, _with_our_size(source), source=source)
    # The engine's own list of names is a second lock, should it ever read a text differently from `limits.py`.
    allowed = FUNCTIONS | functions.FUNCTIONS.keys()
    strange = [name for name in program.functions() if name[0].isalpha() and name not in allowed]
    strange += [name for name in program.variables() if name not in variables and name not in shape.walk_variables]
    if strange:
        raise ExpressionError(f"The expression uses {', '.join(strange)}, which cannot be used here.")
    return Expression(source=source, shape=shape, program=program)


def _with_our_size(source: str) -> str:
    tokens = tokens_of(source)
    for token, following in pairwise(tokens):
        if token.text == "size" and following.text == "(":
            source = source[: token.start] + functions.SIZE_IN_ENGINE + source[token.start + len("size") :]
    return source


def _run(step: Any, argument: Any, *, source: str) -> Any:
    """Call the engine and turn whatever it raises into an ExpressionError.

    A panic of the engine arrives as a BaseException that is no Exception and would pass every other handler.
    """
    try:
        return step(argument)
    except Exception as error:  # noqa: BLE001 - the engine raises eight classes, and explaining always raises again
        _explain(error, source)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ExpressionError(
            "The expression engine cannot work with this expression; write it differently."
        ) from error


_PARSE_FAULT = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_FUNCTION_FAULT = re.compile(r"Function '(\w+)' error: (?:Python function call failed: \w+: )?(.*)", re.DOTALL)


def _explain(error: Exception, source: str) -> NoReturn:
    """Say in one sentence, with place and cure, what the engine complains of."""
    text = (str(error.args[0]) if error.args else str(error)).replace(functions.SIZE_IN_ENGINE, "size")
    if fault := _PARSE_FAULT.search(text):
        at = f"line {fault[1]}, character {fault[2]}" if "\n" in source else f"character {fault[2]}"
        reason = fault[3].split(" expecting ")[0].replace("'<EOF>'", "the end")
        sentence = f"At {at}: {reason}; check the operators, quotes and brackets there."
    elif isinstance(error, KeyError):
        sentence = f"{_at(source, text)}there is no `{text}` in this event; ask first, as in `has(data.name) && …`."
    elif fault := _FUNCTION_FAULT.match(text):
        reason = fault[2].replace(". Check function arguments and their types.", "").split("\n")[0]
        sentence = f"{_at(source, fault[1])}`{fault[1]}` fails: {reason}."
    elif fault := re.match(r"Undefined variable or function: '(\w+)'", text):
        sentence = (
            f"{_at(source, fault[1])}`{fault[1]}` cannot take these values; convert them, as in `string(data.count)`."
        )
    elif isinstance(error, ZeroDivisionError):
        sentence = "The expression divides by zero; ask first, as in `data.count != 0 && …`."
    elif isinstance(error, OverflowError):
        sentence = "A number or time leaves its range (whole numbers have 64 bits); use double(…)."
    elif isinstance(error, IndexError):
        sentence = f"{text.capitalize()}; ask first, as in `size(data.steps) > 0 && …`."
    elif isinstance(error, TypeError):
        first = text.replace("float", "double").split(". ")[0]
        sentence = f"{first}; values of unlike types do not mix: convert with int(…), double(…) or string(…)."
    else:
        sentence = f"The expression fails: {text.split('.')[0]}."
    raise ExpressionError(sentence) from error


def _at(source: str, name: str) -> str:
    found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", source)
    return f"At {place(source, found.start())}: " if found else ""


def _plain_event(event: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The event as plain JSON values, and its encoding: what is not JSON never reaches the engine."""
    try:
        encoded = msgspec.json.encode(event)
    except (TypeError, ValueError, RecursionError) as error:
        raise ExpressionError(f"The event is not a JSON document: {error}.") from error
    if len(encoded) > EVENT_BYTES_MAX:
        raise ExpressionError(
            f"The event has {len(encoded)} bytes; expressions look at no more than {EVENT_BYTES_MAX}."
        )
    try:
        document = msgspec.json.decode(encoded)
    except (ValueError, RecursionError) as error:
        raise ExpressionError(f"The event is not a JSON document: {error}.") from error
    if not isinstance(document, dict):
        raise ExpressionError("The event is not a JSON object.")
    if encoded.count(b"{") + encoded.count(b"[") > EVENT_DEPTH_MAX and _depth(document) > EVENT_DEPTH_MAX:
        raise ExpressionError(f"The event is nested more than {EVENT_DEPTH_MAX} deep.")
    if _LONG_NUMBER.search(encoded):
        _refuse_long_numbers(document)
    return document, encoded


def _values_in(encoded: bytes) -> int:
    """Upper bound of the values of a JSON document; commas inside texts are counted as well."""
    return encoded.count(b",") + encoded.count(b"{") + encoded.count(b"[") + 1


def _size_of(encoded: bytes) -> int:
    return _values_in(encoded) + len(encoded) // 64


def _refuse_long_numbers(document: Any) -> None:
    """The engine would round them without a word."""
    for container in _containers([document]):
        for value in container.values() if isinstance(container, dict) else container:
            if isinstance(value, int) and value not in _INT64:
                raise ExpressionError(f"The event holds {value}, which does not fit into 64 bits; send it as a text.")


def _timestamp(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        time = msgspec.convert(value, datetime)
        if time.tzinfo is None:
            raise ExpressionError("The event's `time` has no zone; end it with Z or an offset such as +01:00.")
        return time.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ExpressionError("The event's `time` is not an RFC 3339 time such as 2026-11-23T08:15:30Z.") from error


def _containers(values: list[Any]) -> Iterator[dict[str, Any] | list[Any]]:
    pending = list(values)
    yield []
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            pending.extend(value.values())
        elif isinstance(value, list):
            yield value
            pending.extend(value)


def _depth(document: Any) -> int:
    level, depth = [document], 0
    while level:
        depth += 1
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
    return depth - 1


def _json_value(value: Any) -> Any:
    """The engine's value as a JSON value."""
    match value:
        case None | bool() | str():
            return value
        case int():
            if value not in _INT64:
                raise ExpressionError("The result is a whole number of more than 64 bits; use string(…).")
            return value
        case float():
            if not isfinite(value):
                raise ExpressionError(f"The result is {value}, which JSON cannot hold; check what is divided.")
            return value
        case list():
            return [_json_value(entry) for entry in value]
        case dict():
            if not all(isinstance(key, str) for key in value):
                raise ExpressionError("The keys of an object must be texts; put them in quotes.")
            return {key: _json_value(entry) for key, entry in value.items()}
        case datetime():
            return _rfc3339(value)
        case _:
            raise ExpressionError(
                f"The result is a {type(value).__name__}, which JSON cannot hold; "
                "use string(…), or getSeconds() for a period."
            )


def _rfc3339(value: datetime) -> str:
    try:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError as error:
        raise ExpressionError("The result is a time outside the years 1 to 9999.") from error


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else f"{text[:40]}…"
