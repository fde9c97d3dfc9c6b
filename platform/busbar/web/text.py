"""The types of fields: texts without control characters, bounded numbers, decimal amounts; OpenAPI shows each bound.

A database refuses NUL in text and numbers beyond its columns, and a request that reaches it with one is a fault of ours
(LESSONS H1). So no struct of a request has a bare `str`, `int` or `Decimal`: it takes one of these.
"""

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Final

from msgspec import Meta

# Python's `$` also matches before a line feed at the end, JSON Schema's (ECMA-262) does not; `(?!\n)` makes them agree.
_END: Final = r"$(?!\n)"
SINGLE_LINE: Final = r"^[^\x00-\x1f\x7f]*" + _END
NAME: Final = r"^[^\x00-\x20\x7f][^\x00-\x1f\x7f]*" + _END
MULTI_LINE: Final = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
SLUG: Final = r"^[a-z][a-z0-9_-]*" + _END
IDENTIFIER: Final = r"^[A-Za-z0-9][A-Za-z0-9._:-]*" + _END
ENTITY_TAGS: Final = r'^(\*|(W/)?"[!#-~]*"( ?, ?(W/)?"[!#-~]*")*)' + _END
_TIME_OF_DAY: Final = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)" + _END
_MONEY: Final = r"^[0-9]{1,13}(\.[0-9]{1,2})?" + _END
_POSITIVE_MONEY: Final = r"^(?![0.]*$)[0-9]{1,13}(\.[0-9]{1,2})?" + _END
_UNIT_PRICE: Final = r"^[0-9]{1,11}(\.[0-9]{1,4})?" + _END
_QUANTITY: Final = r"^[0-9]{1,12}(\.[0-9]{1,3})?" + _END
_POSITIVE_QUANTITY: Final = r"^(?![0.]*$)[0-9]{1,12}(\.[0-9]{1,3})?" + _END
_SIGNED_QUANTITY: Final = r"^-?[0-9]{1,12}(\.[0-9]{1,3})?" + _END

PATTERN_MESSAGES: Final[dict[str, str]] = {
    SINGLE_LINE: "Must be one line without control characters",
    NAME: "Must be one line without control characters, and not start with a space",
    MULTI_LINE: "Must not contain control characters other than tab and line breaks",
    SLUG: "Must be lower-case letters, digits, - and _, starting with a letter",
    IDENTIFIER: "Must be letters, digits and . _ : -, starting with a letter or digit",
    ENTITY_TAGS: 'Must be * or entity tags in quotes, for example "v3"',
    _TIME_OF_DAY: "Must be a time of day from 00:00 to 24:00, such as 07:30",
    _MONEY: "Must be an amount of at least 0 with at most 13 digits and 2 decimals, such as 1250.50",
    _POSITIVE_MONEY: "Must be an amount above 0 with at most 13 digits and 2 decimals, such as 1250.50",
    _UNIT_PRICE: "Must be a price of at least 0 with at most 11 digits and 4 decimals, such as 12.3456",
    _QUANTITY: "Must be a quantity of at least 0 with at most 12 digits and 3 decimals, such as 12.5",
    _POSITIVE_QUANTITY: "Must be a quantity above 0 with at most 12 digits and 3 decimals, such as 12.5",
    _SIGNED_QUANTITY: "Must be a quantity with at most 12 digits and 3 decimals, such as -12.5",
}
"""What a caller is told instead of the pattern."""

_PATH_AT_END: Final = re.compile(r" - at `.*`$", re.DOTALL)
_PATTERN_AT_END: Final = re.compile(r"Expected `str` matching regex ['\"](.*)['\"]$", re.DOTALL)


def readable(message: str) -> str:
    """A message of msgspec for people: without the path, which stands beside it, and without patterns."""
    text = _PATH_AT_END.sub("", message)
    match = _PATTERN_AT_END.match(text)
    if match is not None:
        # msgspec prints the pattern with repr(), which doubles the backslashes and may escape quotes.
        pattern = match.group(1).replace("\\\\", "\\").replace("\\'", "'")
        return PATTERN_MESSAGES.get(pattern, "Has characters or a form that is not accepted here")
    return text.rstrip(".") or "malformed"


Name = Annotated[str, Meta(min_length=1, max_length=120, pattern=NAME)]
"""What something is called: one line, 1 to 120 characters."""
ShortText = Annotated[str, Meta(max_length=250, pattern=SINGLE_LINE)]
"""One line of at most 250 characters; may be empty."""
Text = Annotated[str, Meta(min_length=1, max_length=1_000, pattern=MULTI_LINE)]
"""A paragraph that must say something: 1 to 1,000 characters; a comment, a reason."""
LongText = Annotated[str, Meta(max_length=10_000, pattern=MULTI_LINE)]
"""Several paragraphs, at most 10,000 characters; may be empty."""
Slug = Annotated[str, Meta(min_length=1, max_length=40, pattern=SLUG)]
"""A short name in addresses and keys, such as a site id: 1 to 40 characters."""
Identifier = Annotated[str, Meta(min_length=1, max_length=60, pattern=IDENTIFIER)]
"""A key given by people, such as an asset id: 1 to 60 characters, safe in an address."""

WholeNumber = Annotated[int, Meta(ge=0, le=2_147_483_647)]
"""0 and up, within PostgreSQL's integer."""
PositiveNumber = Annotated[int, Meta(ge=1, le=2_147_483_647)]
"""1 and up, within PostgreSQL's integer."""
Latitude = Annotated[float, Meta(ge=-90, le=90)]
"""Degrees north, WGS 84."""
Longitude = Annotated[float, Meta(ge=-180, le=180)]
"""Degrees east, WGS 84."""
Moment = Annotated[datetime, Meta(tz=True)]
"""A point in time with its offset (RFC 3339)."""
TimeOfDay = Annotated[str, Meta(pattern=_TIME_OF_DAY)]
"""Hours and minutes of a clock on the wall, from 00:00 to 24:00, which is the end of the day."""


def _decimal(pattern: str, *, minimum: int, maximum: int, example: str) -> Meta:
    # Numbers with decimals are read too, digit by digit, without a float in between. The document does not promise it,
    # for JSON Schema cannot say "at most two decimals" of a number in a way that all validators compute alike.
    return Meta(
        extra_json_schema={
            "type": ["string", "integer"],
            "pattern": pattern,
            "minimum": minimum,
            "maximum": maximum,
            "examples": [example],
        }
    )


Money = Annotated[Decimal, _decimal(_MONEY, minimum=0, maximum=9_999_999_999_999, example="1250.50")]
"""An amount of at least 0, two decimals, as text or number."""
PositiveMoney = Annotated[Decimal, _decimal(_POSITIVE_MONEY, minimum=1, maximum=9_999_999_999_999, example="1250.50")]
"""An amount above 0, two decimals, as text or number."""
UnitPrice = Annotated[Decimal, _decimal(_UNIT_PRICE, minimum=0, maximum=99_999_999_999, example="12.3456")]
"""The price of one unit: at least 0, four decimals, as text or number."""
Quantity = Annotated[Decimal, _decimal(_QUANTITY, minimum=0, maximum=999_999_999_999, example="12.5")]
"""A quantity of at least 0, three decimals, as text or number."""
PositiveQuantity = Annotated[Decimal, _decimal(_POSITIVE_QUANTITY, minimum=1, maximum=999_999_999_999, example="12.5")]
"""A quantity above 0, three decimals, as text or number."""
SignedQuantity = Annotated[
    Decimal, _decimal(_SIGNED_QUANTITY, minimum=-999_999_999_999, maximum=999_999_999_999, example="-12.5")
]
"""A change of quantity, three decimals, either sign."""
