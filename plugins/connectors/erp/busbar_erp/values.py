"""How OData V2 writes values: `/Date(ms)/`, decimals as text, and the literals of addresses and filters."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from busbar_erp.model import EntitySet, Field

Value = str | bool | int | Decimal | date | datetime | time | None
"""What a field may hold; a date without a time is midnight over there."""

_DATE = re.compile(r"/Date\((-?\d{1,17})(?:[+-]\d{1,4})?\)/")
_TIME = re.compile(r"PT(?:(\d{1,2})H)?(?:(\d{1,2})M)?(?:(\d{1,2})(?:\.\d+)?S)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DoesNotFit(Exception):
    """A value that SAP would refuse or cut; the message names the field."""


def body_of(entity_set: EntitySet, fields: Mapping[str, Any], sets: Mapping[str, EntitySet]) -> dict[str, Any]:
    """A JSON body of `fields`, nested lists for navigations included. Raises DoesNotFit for what is no such field."""
    body: dict[str, Any] = {}
    for name, value in fields.items():
        if name in entity_set.navigations:
            child = sets[entity_set.navigations[name]]
            body[name] = {"results": [body_of(child, item, sets) for item in value]}
        elif name in entity_set.fields:
            body[name] = encoded(entity_set.fields[name], value)
        else:
            raise DoesNotFit(f"{entity_set.name} has no field {name}.")
    return body


def encoded(field: Field, value: Value) -> Any:
    """A value as JSON carries it. Raises DoesNotFit."""
    if value is None:
        return None
    match field.type:
        case "String":
            return _text(field, value)
        case "Decimal":
            return f"{_decimal(field, value):f}"
        case "DateTime" | "DateTimeOffset" if isinstance(value, date):
            return f"/Date({milliseconds(value)})/"
        case "Time" if isinstance(value, time):
            return duration(value)
        case "Boolean" if isinstance(value, bool):
            return value
        case "Byte" | "Int32" if isinstance(value, int):
            return value
    raise DoesNotFit(f"{field.name} takes a {field.type}, and not {value!r}.")


def literal(field: Field, value: Value) -> str:
    """A value as an address or a filter carries it. Raises DoesNotFit."""
    match field.type:
        case "String":
            return "'" + _text(field, value).replace("'", "''") + "'"
        case "Decimal":
            return f"{_decimal(field, value):f}M"
        case "DateTime" if isinstance(value, date):
            return f"datetime'{_naive(value).isoformat(timespec='seconds')}'"
        case "DateTimeOffset" if isinstance(value, datetime):
            return f"datetimeoffset'{_naive(value).isoformat()}Z'"
        case "Time" if isinstance(value, time):
            return f"time'{duration(value)}'"
        case "Boolean" if isinstance(value, bool):
            return "true" if value else "false"
        case "Byte" | "Int32" if isinstance(value, int):
            return str(value)
    raise DoesNotFit(f"{field.name} takes a {field.type}, and not {value!r}.")


def moment_of(text: Any) -> datetime | None:
    """The time that `/Date(ms)/` tells, in UTC; None for anything else."""
    found = _DATE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=int(found[1]))
    except OverflowError:
        return None


def decimal_of(text: Any) -> Decimal | None:
    """The number that a text tells; None for anything else. A float is refused: it has lost digits already."""
    try:
        number = Decimal(text) if isinstance(text, str) else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() else None


def time_of(text: str) -> time | None:
    """The time of day that `PT12H30M00S` tells; None for anything else."""
    found = _TIME.fullmatch(text)
    if found is None or not any(found.groups()):
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return time(hours, minutes, seconds) if hours < 24 and minutes < 60 and seconds < 60 else None


def duration(value: time) -> str:
    """A time of day as Edm.Time writes it, to the second."""
    return f"PT{value.hour:02d}H{value.minute:02d}M{value.second:02d}S"


def milliseconds(value: date) -> int:
    """Milliseconds since 1970 in UTC; a date stands for its midnight."""
    return (_naive(value).replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


def cut(text: str, characters_max: int) -> str:
    """A text on one line of at most so many code points, with a sign that something was cut off."""
    line = " ".join(text.split())
    return line if len(line) <= characters_max else line[: characters_max - 1].rstrip() + "…"


def _text(field: Field, value: Value) -> str:
    if not isinstance(value, str):
        raise DoesNotFit(f"{field.name} takes a text, and not {value!r}.")
    if field.length is not None and len(value) > field.length:
        raise DoesNotFit(f"{field.name} takes {field.length} characters, and {value!r} has {len(value)}.")
    return value


def _decimal(field: Field, value: Value) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        raise DoesNotFit(f"{field.name} takes a decimal number, and not {value!r}.")
    number = Decimal(value)
    if field.precision is None:
        return number
    exact = number.quantize(Decimal(1).scaleb(-field.scale)) if abs(number) < Decimal(10) ** 28 else number
    if exact != number or abs(number) >= Decimal(10) ** (field.precision - field.scale):
        raise DoesNotFit(f"{field.name} takes {field.precision} digits, {field.scale} behind the point; not {number}.")
    return exact


def _naive(value: date) -> datetime:
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 - OData's DateTime has no zone
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
