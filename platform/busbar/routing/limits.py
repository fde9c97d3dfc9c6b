"""What an expression may cost: its text is read and bounded here, before the CEL engine sees it.

The engine has no limit of its own: text of 100 kB overflows its stack and ends the process, and a chain of
`.map(x, x + x)` doubles a text until memory runs out. So every expression keeps the limits below, and the time that
evaluating it can take on a given event is known before it is evaluated (docs/decisions/0003).
"""

import re
from typing import NoReturn

import msgspec

from busbar.routing.tokens import KEYWORDS, ExpressionError, Token, refuse, tokens_of

SOURCE_CHARS_MAX = 2_000
TOKENS_MAX = 300
DEPTH_MAX = 16
"""Open brackets and nested `? :` at one place; the engine's parser uses about 10 kB of stack for each."""
ADDITIONS_MAX = 16
WALKS_MAX = 4
MATCHES_MAX = 2
PATTERN_CHARS_MAX = 100
PATTERN_REPEATS_MAX = 40
READS_PER_CALL = 10
"""A function of ours is called through Python and costs about as much as reading its argument ten times."""
READS_PER_COPY = 10
"""What a list or object written in the expression holds, and what `+` joins, is copied into the result."""
WORK_MAX = 500_000
"""Bound on `Shape.work`; one unit took 0.05 to 0.3 µs on the machine of decision 0003."""

WALKS = frozenset({"all", "exists", "exists_one", "filter"})
OWN_FUNCTIONS = frozenset({"size", "lowerAscii", "upperAscii", "trim", "substring", "truncate"})
ENGINE_FUNCTIONS = frozenset(
    {"has", "contains", "startsWith", "endsWith", "matches", "string", "int", "double", "timestamp", "duration"}
    | {"getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"}
    | {"getHours", "getMinutes", "getSeconds", "getMilliseconds"}
)
FUNCTIONS = WALKS | OWN_FUNCTIONS | ENGINE_FUNCTIONS

_OPENING = {"(": ")", "[": "]", "{": "}"}
_CLOSING = frozenset(_OPENING.values())


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The counts that bound what one evaluation costs."""

    tokens: int
    reads: int
    """Steps such as `data`, `.asset` or `[0]` that are taken once; the engine copies what each of them reads."""
    walk_tokens: int
    """Tokens inside exists, all, exists_one and filter."""
    walk_reads_of_entry: int
    """Steps inside walks that start at the walked entry; over all entries they read the event once."""
    walk_reads_of_event: int
    """Steps inside walks that start anywhere else; each reads up to the whole event for every entry."""
    walk_variables: tuple[str, ...]
    """The name that each walk gives its entry."""
    filters: int

    @property
    def walks(self) -> int:
        """How many lists are walked."""
        return len(self.walk_variables)

    def work(self, *, size: int, longest: int) -> int:
        """Upper bound of the work of one evaluation, in the units of `WORK_MAX`.

        Args:
            size: the event's values, plus one for every 64 bytes of it.
            longest: entries of the event's longest list or object.
        """
        once = self.tokens + self.reads * size + self.walk_reads_of_entry * size
        per_entry = self.walk_tokens + self.walk_reads_of_event * size
        # The engine's filter copies the list it has built so far for every entry it adds.
        return once + longest * per_entry + self.filters * longest * max(longest, size)


def measure(source: str, *, variables: frozenset[str]) -> Shape:
    """Read an expression's text and refuse what could stall or end the process.

    Raises:
        ExpressionError: it is too long or deep, names something that does not exist, or walks lists inside a walk.
    """
    if not source.strip():
        raise ExpressionError("The expression is empty; write `true` to take every event.")
    if len(source) > SOURCE_CHARS_MAX:
        raise ExpressionError(
            f"The expression has {len(source)} characters, at most {SOURCE_CHARS_MAX} are taken; split it."
        )
    tokens = tokens_of(source)
    if len(tokens) > TOKENS_MAX:
        raise ExpressionError(
            f"The expression has {len(tokens)} words and signs, at most {TOKENS_MAX} are taken; split it."
        )
    return _Reader(source=source, tokens=tokens, variables=variables).shape()


class _Walk(msgspec.Struct):
    """An open exists, all, exists_one or filter."""

    variable: str
    closes_at_depth: int
    is_filter: bool


class _Reader:
    """Goes through the tokens once, refuses what is not allowed and counts the rest."""

    def __init__(self, *, source: str, tokens: list[Token], variables: frozenset[str]) -> None:
        self.source = source
        self.tokens = tokens
        self.variables = variables
        self.open: list[int] = []  # indices of the brackets that are open
        self.choices = self.literals_open = 0
        self.additions = self.matches = self.filters = 0
        self.reads = self.calls = self.walk_tokens = self.walk_calls = 0
        self.reads_of_entry = self.reads_of_event = 0
        self.walk: _Walk | None = None
        self.walk_variables: list[str] = []
        self.filter_ends: set[int] = set()
        self.in_entry_chain = False

    def shape(self) -> Shape:
        for index, token in enumerate(self.tokens):
            if self.walk is not None:
                self.walk_tokens += 1
            if token.kind == "name" and token.text not in KEYWORDS:
                self._name(index, token)
            elif token.kind == "sign":
                self._sign(index, token)
            else:
                self.in_entry_chain = False
        if self.open:
            bracket = self.tokens[self.open[-1]]
            refuse(self.source, bracket.start, f"`{bracket.text}` is never closed; add `{_OPENING[bracket.text]}`.")
        # A function called in a walk may be given the whole event there, so its cost goes to the dearer account.
        reads_of_event = self.reads_of_event + (READS_PER_CALL * self.walk_calls if self.reads_of_event else 0)
        return Shape(
            tokens=len(self.tokens),
            reads=self.reads + READS_PER_CALL * self.calls,
            walk_tokens=self.walk_tokens + READS_PER_CALL * self.walk_calls,
            walk_reads_of_entry=self.reads_of_entry + READS_PER_CALL * self.walk_calls,
            walk_reads_of_event=reads_of_event,
            walk_variables=tuple(self.walk_variables),
            filters=self.filters,
        )

    def _text_at(self, index: int) -> str:
        return self.tokens[index].text if 0 <= index < len(self.tokens) else ""

    def _refuse(self, token: Token, sentence: str) -> NoReturn:
        refuse(self.source, token.start, sentence)

    def _name(self, index: int, token: Token) -> None:
        after_dot = self._text_at(index - 1) == "."
        following = self._text_at(index + 1)
        if following == "(":
            self._call(index, token, after_dot=after_dot)
            self.in_entry_chain = False
            return
        if following == "{":
            self._refuse(token, "objects have no type name; write `{'key': value}`.")
        walk = self.walk
        if not after_dot:
            self.in_entry_chain = walk is not None and token.text == walk.variable
            if not self.in_entry_chain and token.text not in self.variables:
                known = ", ".join(sorted(self.variables))
                self._refuse(token, f"there is no `{token.text}`; known are {known}, and texts stand in quotes.")
        self._count_read()

    def _count_read(self) -> None:
        if self.walk is None:
            self.reads += READS_PER_COPY if self.literals_open else 1
        elif self.in_entry_chain:
            self.reads_of_entry += 1
        else:
            self.reads_of_event += 1

    def _call(self, index: int, token: Token, *, after_dot: bool) -> None:
        name = token.text
        if name not in FUNCTIONS:
            cure = (
                "use `=for` and `=each` in the mapping"
                if name == "map"
                else f"known are {', '.join(sorted(FUNCTIONS))}"
            )
            self._refuse(token, f"there is no function `{name}`; {cure}.")
        if name in WALKS:
            self._open_walk(index, token, after_dot=after_dot)
        elif name == "matches":
            self._check_matches(index, token, after_dot=after_dot)
        elif name in OWN_FUNCTIONS:
            if self.walk is None:
                self.calls += 1
            else:
                self.walk_calls += 1

    def _open_walk(self, index: int, token: Token, *, after_dot: bool) -> None:
        name = token.text
        if not after_dot:
            self._refuse(token, f"`{name}` follows the list that it walks, as in `data.steps.{name}(step, …)`.")
        if self.walk is not None:
            self._refuse(token, f"`{name}` stands inside another walk of a list; one walk cannot hold another.")
        if len(self.walk_variables) == WALKS_MAX:
            self._refuse(token, f"at most {WALKS_MAX} walks of lists are taken; split the route.")
        if not self._is_path(index - 2):
            self._refuse(token, f"`{name}` walks a list of the event, as in `data.steps.{name}(step, …)`.")
        variable = self.tokens[index + 2] if index + 3 < len(self.tokens) else None
        if variable is None or variable.kind != "name" or variable.text in KEYWORDS or self._text_at(index + 3) != ",":
            self._refuse(token, f"`{name}` takes a name and a condition, as in `data.steps.{name}(step, step.done)`.")
        if variable.text in self.variables:
            self._refuse(variable, f"`{variable.text}` is taken; give the entry another name.")
        if name == "filter":
            self.filters += 1
        self.walk_variables.append(variable.text)
        self.walk = _Walk(variable=variable.text, closes_at_depth=len(self.open), is_filter=name == "filter")

    def _is_path(self, index: int) -> bool:
        """Whether a path such as `data.asset['parts']`, or a filter, ends at the token."""
        while index >= 0:
            token = self.tokens[index]
            if token.text == "]" and self._text_at(index - 2) == "[":
                if self.tokens[index - 1].kind not in ("text", "number"):
                    return False
                index -= 3
            elif token.text == ")" and token.kind == "sign":
                return index in self.filter_ends
            elif token.kind == "name" and token.text not in KEYWORDS:
                if self._text_at(index - 1) != ".":
                    return True
                index -= 2
            else:
                return False
        return False

    def _check_matches(self, index: int, token: Token, *, after_dot: bool) -> None:
        self.matches += 1
        if self.walk is not None:
            self._refuse(token, "`matches` is too slow inside a walk of a list; use startsWith, endsWith or contains.")
        if self.matches > MATCHES_MAX:
            self._refuse(token, f"at most {MATCHES_MAX} uses of `matches` are taken; use startsWith or contains.")
        pattern = self.tokens[index + 2] if index + 3 < len(self.tokens) else None
        if not after_dot or pattern is None or pattern.kind != "text" or self._text_at(index + 3) != ")":
            self._refuse(token, "`matches` takes one text in quotes, as in `data.name.matches('^T-[0-9]+$')`.")
        complaint = _pattern_complaint(pattern.text)
        if complaint:
            self._refuse(pattern, complaint)

    def _sign(self, index: int, token: Token) -> None:
        sign = token.text
        if sign in _OPENING:
            self.open.append(index)
            if self._is_index(index):
                self._count_read()
            elif sign != "(":
                self.literals_open += 1
        elif sign in _CLOSING:
            self._close(index, token)
        elif sign == "?":
            self.choices += 1
        elif sign == "+":
            self.additions += 1
            if self.walk is None:
                self.reads += READS_PER_COPY
            if self.additions > ADDITIONS_MAX:
                self._refuse(token, f"at most {ADDITIONS_MAX} additions are taken; split the value.")
        elif sign == "." and not self._follows_value(index):
            self._refuse(token, "a dot must follow a value, as in `data.name`.")
        if len(self.open) + self.choices > DEPTH_MAX:
            self._refuse(token, f"brackets and choices are nested more than {DEPTH_MAX} deep; split the expression.")
        self.in_entry_chain = self.in_entry_chain and sign == "."

    def _close(self, index: int, token: Token) -> None:
        if not self.open or _OPENING[self._text_at(self.open[-1])] != token.text:
            self._refuse(token, f"`{token.text}` closes nothing; check the brackets before it.")
        opening = self.open.pop()
        if self._text_at(opening) != "(" and not self._is_index(opening):
            self.literals_open -= 1
        if self.walk is not None and len(self.open) == self.walk.closes_at_depth:
            if self.walk.is_filter:
                self.filter_ends.add(index)
            self.walk = None

    def _is_index(self, index: int) -> bool:
        """Whether the token is the `[` of `data.steps[0]`, not that of a list."""
        return self.tokens[index].text == "[" and self._follows_value(index)

    def _follows_value(self, index: int) -> bool:
        before = self.tokens[index - 1] if index else None
        if before is None or before.text == "in":
            return False
        return before.kind != "sign" or before.text in _CLOSING


def _pattern_complaint(literal: str) -> str | None:
    """Why a pattern of `matches` is refused. The engine's regular expressions are linear in the text they search, but
    building one takes time for every character, and again for every counted repetition."""
    raw = literal[0] in "rR"
    body = literal[2:-1] if raw else literal[1:-1]
    if not raw:
        if re.search(r"\\[^\\'\"]", body):
            return r"write a backslash of a pattern twice, or put r before the quote, as in r'\d+'."
        body = re.sub(r"\\(.)", r"\1", body)
    if len(body) > PATTERN_CHARS_MAX:
        return f"a pattern has at most {PATTERN_CHARS_MAX} characters."
    repeats = 0
    for brace in re.finditer(r"\{", body):
        counted = re.compile(r"\{(\d{1,3})(?:,(\d{0,3}))?\}").match(body, brace.start())
        if counted is None or body[: brace.start()].endswith((")", "}", "*", "+", "?")):
            return "a count in braces may only follow a single character or a class, as in [0-9]{4}."
        repeats += max(int(counted[1]), int(counted[2] or 0))
    if repeats > PATTERN_REPEATS_MAX:
        return f"the counts in braces add up to {repeats}; at most {PATTERN_REPEATS_MAX} are taken."
    return None
