"""Checks decimals after decoding: msgspec has no bounds for them, and takes `NaN` and `1e999999999`.

The second costs a gigabyte when written out, so no decimal passes that is not finite and of ordinary size.
"""

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, get_origin

from msgspec import inspect

from busbar.errors import FieldError
from busbar.web.text import PATTERN_MESSAGES

DIGITS_MAX: Final = 30
"""Digits before and after the decimal point together that any decimal may have."""

_Check = Callable[[Any, str, list[FieldError]], None]
_ORDINARY: Final = f"Must be a number of at most {DIGITS_MAX} digits."


def amount_errors(value: Any, type_: Any, *, path: str = "") -> list[FieldError]:
    """The bad decimals inside a decoded `value` of `type_`; free of cost for types without decimals."""
    check = _check_for(type_)
    if check is None:
        return []
    errors: list[FieldError] = []
    check(value, path, errors)
    return errors


@lru_cache(maxsize=1_000)
def _check_for(type_: Any) -> _Check | None:
    try:
        info = inspect.type_info(type_)
    except TypeError:
        return None
    return _compile(info, {})


def _compile(info: inspect.Type, seen: dict[int, _Check | None], pattern: str | None = None) -> _Check | None:
    """A function that visits the decimals of one type, or None when it holds none."""
    match info:
        case inspect.Metadata():
            return _compile(info.type, seen, (info.extra_json_schema or {}).get("pattern"))
        case inspect.DecimalType():
            return _decimal_check(re.compile(pattern) if pattern else None)
        case inspect.UnionType():
            return _any_check([check for member in info.types if (check := _compile(member, seen))])
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
            return _items_check(_compile(info.item_type, seen))
        case inspect.DictType():
            return _values_check(_compile(info.value_type, seen))
        case inspect.StructType():
            return _struct_check(info, seen)
    return None


def _decimal_check(pattern: re.Pattern[str] | None) -> _Check:
    def check(value: Any, path: str, errors: list[FieldError]) -> None:
        if not isinstance(value, Decimal):
            return
        # Looked at without writing the number out: its length is what may be harmful.
        _sign, digits, exponent = value.as_tuple()
        if not isinstance(exponent, int) or len(digits) > DIGITS_MAX or abs(exponent) > DIGITS_MAX:
            errors.append(FieldError(field=path or "body", message=_ORDINARY))
        elif pattern is not None and not pattern.search(format(value, "f")):
            message = PATTERN_MESSAGES.get(pattern.pattern, _ORDINARY.rstrip("."))
            errors.append(FieldError(field=path or "body", message=message + "."))

    return check


def _any_check(inner: list[_Check]) -> _Check | None:
    """For a union: each check ignores values that are not of its kind."""
    if len(inner) < 2:
        return inner[0] if inner else None

    def check(value: Any, path: str, errors: list[FieldError]) -> None:
        for each in inner:
            each(value, path, errors)

    return check


def _items_check(inner: _Check | None) -> _Check | None:
    if inner is None:
        return None

    def check(value: Any, path: str, errors: list[FieldError]) -> None:
        if isinstance(value, Iterable) and not isinstance(value, (str, bytes, dict)):
            for index, item in enumerate(value):
                inner(item, f"{path}[{index}]", errors)

    return check


def _values_check(inner: _Check | None) -> _Check | None:
    if inner is None:
        return None

    def check(value: Any, path: str, errors: list[FieldError]) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                inner(item, f"{path}.{key}" if path else str(key), errors)

    return check


def _struct_check(info: inspect.StructType, seen: dict[int, _Check | None]) -> _Check | None:
    # By the description, not the class: Page[Order] and Page[Material] are one class. A struct that contains itself is
    # described by the same object.
    key = id(info)
    if key in seen:
        return seen[key]
    parts: list[tuple[str, str, _Check]] = []
    cls = get_origin(info.cls) or info.cls

    def check(value: Any, path: str, errors: list[FieldError]) -> None:
        if isinstance(value, cls):
            for attribute, name, inner in parts:
                inner(getattr(value, attribute), f"{path}.{name}" if path else name, errors)

    # A struct that contains itself finds this function here; if it then holds no decimals at all, visiting is idle.
    seen[key] = check
    for field in info.fields:
        inner = _compile(field.type, seen)
        if inner is not None:
            parts.append((field.name, field.encode_name, inner))
    seen[key] = check if parts else None
    return seen[key]
