"""The text functions that Busbar adds to CEL: none makes a text longer, so none can fill memory."""

import logging
from collections.abc import Callable
from typing import Any, Final

# The engine logs a warning for every error raised in one of these functions, although the caller receives the error.
logging.getLogger("cel").setLevel(logging.CRITICAL)


def size(value: Any) -> int:
    """Characters of a text, entries of a list or an object."""
    if not isinstance(value, str | list | dict):
        raise TypeError("size takes a text, a list or an object")
    return len(value)


def lower_ascii(text: Any) -> str:
    """The text with A to Z in lower case; other characters stay."""
    return _text(text, "lowerAscii").encode().lower().decode()


def upper_ascii(text: Any) -> str:
    """The text with a to z in upper case; other characters stay."""
    return _text(text, "upperAscii").encode().upper().decode()


def trim(text: Any) -> str:
    """The text without white space at its ends."""
    return _text(text, "trim").strip()


def substring(text: Any, start: Any, end: Any = None) -> str:
    """Characters from `start`, counted from 0, up to but without `end`; the range must lie inside the text."""
    whole = _text(text, "substring")
    first = _index(start, "substring")
    last = len(whole) if end is None else _index(end, "substring")
    if not 0 <= first <= last <= len(whole):
        raise ValueError(f"substring({first}, {last}) is outside a text of {len(whole)} characters; use truncate")
    return whole[first:last]


def truncate(text: Any, characters: Any) -> str:
    """At most so many characters from the start of the text; for fields of a limited length, such as SAP's 40."""
    length = _index(characters, "truncate")
    if length < 0:
        raise ValueError("truncate takes a number of characters that is not negative")
    return _text(text, "truncate")[:length]


SIZE_IN_ENGINE = "len_"
"""The engine's own `size` counts the UTF-8 bytes of a text, where CEL says characters, and cannot be replaced. So calls
of `size` go to ours, under a name of the same length: places in the engine's complaints stay right."""

FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    SIZE_IN_ENGINE: size,
    "lowerAscii": lower_ascii,
    "upperAscii": upper_ascii,
    "trim": trim,
    "substring": substring,
    "truncate": truncate,
}


def _text(value: Any, function: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{function} takes a text; convert with string(…)")
    return value


def _index(value: Any, function: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{function} takes whole numbers of characters")
    return value
