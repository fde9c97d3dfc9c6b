"""The words of an expression, and the error that points at one of them."""

import re
from typing import NoReturn

import msgspec

from busbar.errors import InvalidPayload

KEYWORDS = frozenset({"true", "false", "null", "in"})
_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n\f]+)
    | (?P<text>[rR]?(?:"(?!"")(?:[^"\\\n\r]|\\[^\n\r])*" | '(?!'')(?:[^'\\\n\r]|\\[^\n\r])*'))
    | (?P<number>0[xX][0-9a-fA-F]+[uU]?|[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?[uU]?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign>==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()\[\]{}])
    """,
    re.VERBOSE,
)


class ExpressionError(InvalidPayload):
    """An expression cannot be read, breaks a limit, or fails on this event; the sentence names place and cure."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """One word of an expression."""

    kind: str
    """`text`, `number`, `name` or `sign`."""
    text: str
    start: int
    """Index of its first character in the source, from 0."""


def refuse(source: str, start: int, sentence: str) -> NoReturn:
    """Raise an ExpressionError that names the place in the source."""
    raise ExpressionError(f"At {place(source, start)}: {sentence}")


def place(source: str, start: int) -> str:
    """`character 12`, or `line 2, character 3` in a source of several lines; counted from 1."""
    line = source.count("\n", 0, start) + 1
    column = start - (source.rfind("\n", 0, start) + 1) + 1
    return f"line {line}, character {column}" if "\n" in source else f"character {column}"


def tokens_of(source: str) -> list[Token]:
    """The words and signs of an expression, in the grammar of CEL without comments, bytes and triple quotes.

    Raises:
        ExpressionError: a character belongs to no word, or a text is not closed.
    """
    tokens: list[Token] = []
    start = 0
    while start < len(source):
        if source.startswith("//", start):
            refuse(source, start, "comments are not taken; describe the route in its name.")
        match = _TOKEN.match(source, start)
        if match is None:
            _refuse_character(source, start)
        if match.lastgroup != "space":
            tokens.append(Token(kind=str(match.lastgroup), text=match.group(), start=start))
        start = match.end()
    return tokens


def _refuse_character(source: str, start: int) -> NoReturn:
    rest = source[start:].lstrip("rR")
    if rest.startswith(('"""', "'''")):
        refuse(source, start, "texts in three quotes are not taken; use one quote on each side.")
    if rest.startswith(('"', "'")):
        refuse(source, start, "this text has no closing quote; close it on the same line.")
    if source[start] in "&|=":
        refuse(source, start, f"`{source[start]}` is no operator; write `&&`, `||` or `==`.")
    refuse(source, start, f"{source[start]!r} cannot stand here; put texts in quotes.")
