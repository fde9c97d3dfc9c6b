"""The declared ways to read a cell that is not written as its field expects; there are no others, and no code runs."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta

Words = Annotated[tuple[str, ...], Meta(min_length=1, max_length=20)]
Value = str | int | float | bool | Decimal | None


class NumberFormat(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="number", forbid_unknown_fields=True
):
    """A number with a decimal comma or with marks between thousands: `1.234,5` or `1 234.5`."""

    decimal: Literal[".", ","] = ","
    thousands: Literal["", ".", ",", " ", "'"] = ""
    """A space stands for a no-break space, too."""
    factor: Decimal = Decimal(1)
    """Multiplies the number, to change its unit: 0.001 makes metres kilometres."""


class DateFormat(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="date", forbid_unknown_fields=True):
    """A date or time in one of several patterns of `%d %m %Y %y %H %M %S`, such as `%d.%m.%Y %H:%M`."""

    patterns: Words
    zone: str = "UTC"
    """IANA name of the zone in which a time without offset is meant. Of a date it changes nothing."""


class TrueFalse(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="true_false", forbid_unknown_fields=True
):
    """Words for yes and no; capitals make no difference."""

    true: Words = ("true", "yes", "y", "1", "x", "ja", "j", "wahr")
    false: Words = ("false", "no", "n", "0", "nein", "falsch")


class ValueMap(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="values", forbid_unknown_fields=True):
    """A table from what the file says to what is meant."""

    values: Annotated[dict[str, str | int | float | bool | None], Meta(min_length=1, max_length=1_000)]
    otherwise: Literal["refuse", "keep"] = "refuse"
    """What becomes of a value that is not in the table."""


class Case(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="case", forbid_unknown_fields=True):
    """The same text in capitals or small letters."""

    to: Literal["upper", "lower"]


Transform = NumberFormat | DateFormat | TrueFalse | ValueMap | Case
Reader = Callable[[str], Value]
"""Takes the text of a cell, not blank; raises ValueError with a clause that follows the name of the field."""

_DIRECTIVES: Final = re.compile(r"%(.?)")
_TIME_DIRECTIVES: Final = frozenset("HMS")


def reader_for(transform: Transform) -> Reader:
    """Return the function that applies it; raises ValueError when the transform itself makes no sense."""
    if isinstance(transform, NumberFormat):
        return _number_reader(transform)
    if isinstance(transform, DateFormat):
        return _date_reader(transform)
    if isinstance(transform, TrueFalse):
        return _true_false_reader(transform)
    if isinstance(transform, ValueMap):
        return _value_reader(transform)
    return str.upper if transform.to == "upper" else str.lower


def _number_reader(transform: NumberFormat) -> Reader:
    if transform.decimal == transform.thousands:
        raise ValueError("has the same mark for decimals and thousands")
    if not transform.factor.is_finite():
        raise ValueError("has a factor that is not a number")
    group = re.escape(transform.thousands).replace(r"\ ", "[ \u00a0\u202f]")
    whole = rf"\d{{1,3}}(?:{group}\d{{3}})+|\d+" if group else r"\d+"
    pattern = re.compile(rf"[+-]?(?:{whole})(?:{re.escape(transform.decimal)}\d+)?")
    example = {",": "1234,5", ".": "1234.5"}[transform.decimal]

    def read(text: str) -> Decimal:
        if not pattern.fullmatch(text):
            raise ValueError(f"is not a number such as {example}")
        digits = re.sub(group, "", text) if group else text
        return Decimal(digits.replace(transform.decimal, ".")) * transform.factor

    return read


def _date_reader(transform: DateFormat) -> Reader:
    try:
        zone = UTC if transform.zone == "UTC" else ZoneInfo(transform.zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"names the zone {transform.zone[:60]!r}, which is not known") from None
    for pattern in transform.patterns:
        used = set(_DIRECTIVES.findall(pattern))
        if not used <= set("dmYyHMS") or not {"d", "m"} <= used or not used & {"Y", "y"}:
            raise ValueError(
                f"has the pattern {pattern[:60]!r}; day, month and year are needed, of %d %m %Y %y %H %M %S"
            )
    allowed = " or ".join(transform.patterns)

    def read(text: str) -> str:
        for pattern in transform.patterns:
            try:
                moment = datetime.strptime(text, pattern)  # noqa: DTZ007 - whether it exists in the zone is asked below
            except ValueError:
                continue
            if not _TIME_DIRECTIVES & set(_DIRECTIVES.findall(pattern)):
                return moment.date().isoformat()
            aware = moment.replace(tzinfo=zone)
            in_utc = aware.astimezone(UTC)
            if in_utc.astimezone(zone).replace(tzinfo=None) != moment:
                raise ValueError(f"does not exist in {transform.zone}: the clock was put forward")
            return in_utc.isoformat()
        raise ValueError(f"is not written as {allowed}")

    return read


def _true_false_reader(transform: TrueFalse) -> Reader:
    words = {word.casefold(): True for word in transform.true}
    for word in transform.false:
        if words.setdefault(word.casefold(), False):
            raise ValueError(f"has the word {word[:40]!r} for both yes and no")
    allowed = ", ".join(words)

    def read(text: str) -> bool:
        value = words.get(text.casefold())
        if value is None:
            raise ValueError(f"is none of {allowed}")
        return value

    return read


def _value_reader(transform: ValueMap) -> Reader:
    shown = ", ".join(list(transform.values)[:10]) + (", …" if len(transform.values) > 10 else "")

    def read(text: str) -> Value:
        if text in transform.values:
            return transform.values[text]
        if transform.otherwise == "keep":
            return text
        raise ValueError(f"is none of {shown}")

    return read
