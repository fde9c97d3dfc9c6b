"""Writes plain data as YAML 1.2, the same text for the same data: what a gateway's configuration needs of it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

_KEY = re.compile(r"[a-z_][a-z0-9_]*")
_NOT_TEXTS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""Words that are values of other kinds in some version of YAML."""


def yaml_text(document: Mapping[str, Any]) -> str:
    """The document in blocks, two blanks for each level; texts in double quotes, those of several lines as they are.

    Raises:
        ValueError: a key is not of the form `some_key`.
    """
    return "\n".join(_mapping(document, 0)) + "\n"


def _mapping(values: Mapping[str, Any], depth: int) -> Iterator[str]:
    blanks = "  " * depth
    for key, value in values.items():
        if not _KEY.fullmatch(key) or key in _NOT_TEXTS:
            raise ValueError(f"{key!r} is no key that is written without quotes")
        if isinstance(value, str) and "\n" in value:
            yield f"{blanks}{key}: |"
            yield from (f"{blanks}  {line}" for line in value.splitlines())
        elif isinstance(value, Mapping) and value:
            yield f"{blanks}{key}:"
            yield from _mapping(value, depth + 1)
        elif isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
            yield f"{blanks}{key}:"
            for each in value:
                first, *others = _mapping(each, depth + 2)
                yield f"{blanks}  - {first.lstrip()}"
                yield from others
        else:
            yield f"{blanks}{key}: {_inline(value)}"


def _inline(value: Any) -> str:
    """JSON is YAML; with a blank after each comma, it is what people write."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_inline(each) for each in value)}]"
    return msgspec.json.encode(value).decode()
