"""Which column, constant and transform make which field, and the rows that come of it, with every bad field named."""

import functools
import re
from collections.abc import Iterator
from decimal import Decimal
from math import isfinite
from types import UnionType
from typing import Annotated, Any, Final, Generic, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from busbar.errors import FieldError, InvalidPayload
from busbar.imports.readers import Source, SourceRow
from busbar.imports.report import CellError, ReportBuilder
from busbar.imports.transforms import Reader, Transform, reader_for
from busbar.web.amounts import amount_errors
from busbar.web.text import PATTERN_MESSAGES
from busbar.web.validation import BODY, decode_body

T = TypeVar("T", bound=msgspec.Struct)

BATCH_ROWS: Final = 1_000
COLUMN_NAME_MAX: Final = 250


class FieldRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one field comes from: a column, a constant, or a column with a constant for its blank cells."""

    column: Annotated[str, Meta(min_length=1, max_length=COLUMN_NAME_MAX)] | None = None
    constant: str | int | float | bool | None = None
    transform: Transform | None = None
    """Applied to the cells of the column, not to the constant."""


class Mapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules of all fields, by field name. A field without a rule keeps its default."""

    fields: Annotated[dict[str, FieldRule], Meta(min_length=1, max_length=200)]


def read_mapping(text: bytes) -> Mapping:
    """A mapping as JSON.

    Raises:
        BadFormat: it is not JSON.
        InvalidPayload: naming every rule that is not one, as `mapping.fields.name.column`.
    """
    try:
        mapping: Mapping = decode_body(text, Mapping)
    except InvalidPayload as refused:
        errors = [
            FieldError(field="mapping" if each.field == BODY else f"mapping.{each.field}", message=each.message)
            for each in refused.errors
        ]
        detail = refused.detail.replace("The body", "The mapping")
        errors = errors or [FieldError(field="mapping", message="is not a mapping")]
        raise type(refused)(detail, errors=errors) from None
    return mapping


class MappedRow(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One good row."""

    line: int
    value: T


def suggest_mapping(row_type: type[msgspec.Struct], columns: tuple[str, ...]) -> Mapping:
    """Map each field to the column of the same name; capitals, spaces, `-` and `_` make no difference.

    Raises:
        InvalidPayload: a required field has no such column, or no field has.
    """
    by_name = {_plain(column): column for column in reversed(columns)}
    rules = {
        field.encode_name: FieldRule(column=by_name[_plain(field.encode_name)])
        for field in msgspec.structs.fields(row_type)
        if _plain(field.encode_name) in by_name
    }
    missing = [
        FieldError(field=field.encode_name, message="No column has this name, and no rule says where it comes from.")
        for field in msgspec.structs.fields(row_type)
        if field.required and not _takes_none(field.type) and field.encode_name not in rules
    ]
    if missing or not rules:
        names = ", ".join(repr(column) for column in columns[:20])
        raise InvalidPayload(f"The columns are {names}; they do not fit, so a mapping is needed.", errors=missing)
    return Mapping(fields=rules)


class RowConverter(Generic[T]):
    """Makes structs of rows. Checks the mapping once, when it is built.

    Raises:
        InvalidPayload: naming every rule that does not fit the columns or the struct.
    """

    def __init__(self, row_type: type[T], mapping: Mapping, columns: tuple[str, ...]) -> None:
        self._row_type = row_type
        self._makers: list[_FieldMaker] = []
        errors: list[FieldError] = []
        fields = {field.encode_name: field for field in msgspec.structs.fields(row_type)}
        for name in mapping.fields.keys() - fields.keys():
            errors.append(
                FieldError(field=f"fields.{name}", message=f"There is no such field; there are {', '.join(fields)}.")
            )
        for name, field in fields.items():
            rule = mapping.fields.get(name)
            if rule is None:
                if field.required and not _takes_none(field.type):
                    errors.append(FieldError(field=f"fields.{name}", message="This field is needed and has no rule."))
                elif field.required:
                    self._makers.append(_FieldMaker(field, FieldRule(), None, None))
                continue
            message = _fault_of(rule, columns)
            try:
                reader = reader_for(rule.transform) if rule.transform else None
            except ValueError as error:
                reader, message = None, f"The transform {error}."
            if message:
                errors.append(FieldError(field=f"fields.{name}", message=message))
            else:
                position = None if rule.column is None else columns.index(rule.column)
                self._makers.append(_FieldMaker(field, rule, position, reader))
        if errors:
            raise InvalidPayload(
                "The mapping does not fit: " + "; ".join(e.field for e in errors[:10]) + ".", errors=errors
            )

    def convert(self, cells: tuple[str, ...]) -> T | list[CellError]:
        """Make the struct of one row; or say, for every bad field, what is wrong with it."""
        values: dict[str, Any] = {}
        errors: list[CellError] = []
        for maker in self._makers:
            text = "" if maker.position is None else cells[maker.position]
            try:
                value = maker.make(text)
            except ValueError as error:
                errors.append(CellError(field=maker.name, value=text, message=str(error)))
            else:
                if value is not msgspec.UNSET:
                    values[maker.attribute] = value
        if errors:
            return errors
        try:
            return self._row_type(**values)
        except (ValueError, TypeError) as error:
            # A rule between fields, in the struct's own __post_init__.
            return [CellError(field="", message=str(error)[:300] or "the fields do not go together")]


def convert_rows(
    source: Source,
    converter: RowConverter[T],
    report: ReportBuilder,
    *,
    batch_rows: int = BATCH_ROWS,
    key: str | None = None,
) -> Iterator[list[MappedRow[T]]]:
    """Yield the good rows in batches and enter every row in `report`; the caller decides what a bad row means.

    `key` names a field that must not repeat within the file. Work is done while iterating: put it in a thread when
    the event loop must go on.
    """
    batch: list[MappedRow[T]] = []
    first_lines: dict[Any, int] = {}
    for row in source.rows:
        outcome = _read(row, converter)
        if not isinstance(outcome, list) and key is not None:
            value = getattr(outcome, key)
            first_line = first_lines.setdefault(value, row.line)
            if first_line != row.line:
                outcome = [CellError(field=key, value=str(value), message=f"is in line {first_line} already")]
        if isinstance(outcome, list):
            report.reject(row.line, outcome)
            continue
        report.accept()
        batch.append(MappedRow(line=row.line, value=outcome))
        if len(batch) == batch_rows:
            yield batch
            batch = []
    if batch:
        yield batch


def _read(row: SourceRow, converter: RowConverter[T]) -> T | list[CellError]:
    if row.problem:
        return [CellError(field="", value=" | ".join(row.cells[:10]), message=row.problem)]
    return converter.convert(row.cells)


class _FieldMaker:
    """Makes the value of one field."""

    def __init__(
        self, field: msgspec.structs.FieldInfo, rule: FieldRule, position: int | None, reader: Reader | None
    ) -> None:
        self.name = field.encode_name
        self.attribute = field.name
        self.position = position
        self._hint = field.type
        self._constant = rule.constant
        self._reader = reader
        self._blank: Any = msgspec.UNSET if not field.required else None
        self._blank_is_refused = field.required and not _takes_none(field.type)

    def make(self, text: str) -> Any:
        """Return the value, or UNSET for the default; raises ValueError with a clause that follows the field's name."""
        if text:
            if _CONTROL.search(text):
                raise ValueError("holds a control character")
            raw: Any = self._reader(text) if self._reader else text
        else:
            raw = self._constant
        if raw is None:
            if self._blank_is_refused:
                raise ValueError("is missing")
            return self._blank
        return _converted(raw, self._hint)


def _converted(raw: Any, hint: Any) -> Any:
    try:
        value = msgspec.convert(raw, hint, strict=False)
    except msgspec.ValidationError as error:
        # A number or truth value that a transform or constant gave, for a field of text.
        if isinstance(raw, (int, float, Decimal)):
            return _converted(str(raw).lower() if isinstance(raw, bool) else str(raw), hint)
        raise ValueError(_clause(error, hint)) from None
    if value is None and raw is not None:
        # The lax conversion takes the text "null" for None; in a file it is just a text.
        raise ValueError("is not a value of this field")
    if isinstance(value, (float, Decimal)) and not (isfinite(value) if isinstance(value, float) else value.is_finite()):
        raise ValueError("is not a finite number")
    amount = amount_errors(value, hint)
    if amount:
        raise ValueError(_lower_first(amount[0].message.rstrip(".")))
    return value


_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_PATTERN: Final = re.compile(r"Expected `str` matching regex '(.*)'$", re.DOTALL)
_BOUND: Final = re.compile(r"Expected `[^`]*`( of length)? (>=|<=|>|<) (\S+)$")
_COMPARISONS: Final = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_WORDS: Final[tuple[tuple[str, str], ...]] = (
    ("`int", "is not a whole number"),
    ("`float", "is not a number such as 12.5"),
    ("`decimal", "is not a number such as 12.5"),
    ("`bool", "is not true or false"),
    ("`date`", "is not a date such as 2024-01-31"),
    ("`date |", "is not a date such as 2024-01-31"),
    ("`datetime", "is not a time such as 2024-01-31T23:59:00Z"),
)


def _clause(error: msgspec.ValidationError, hint: Any) -> str:
    """What msgspec says, as a clause in plain words; its own words where there is nothing better."""
    text = str(error)
    pattern = _PATTERN.match(text)
    if pattern:
        known = PATTERN_MESSAGES.get(
            pattern.group(1).replace("\\\\", "\\"), "Has characters that are not accepted here"
        )
        return _lower_first(known)
    if text.startswith("Invalid enum value"):
        return f"is none of {', '.join(_choices(hint))}"
    if text == "Invalid RFC3339 encoded datetime":
        return "is not a time such as 2024-01-31T23:59:00Z"
    if text == "Invalid RFC3339 encoded date":
        return "is not a date such as 2024-01-31"
    if text == "Number out of range":
        return "is out of range"
    if "with a timezone" in text:
        return "has no offset from UTC, such as the Z in 2024-01-31T23:59:00Z"
    bound = _BOUND.match(text)
    if bound:
        what = "have {} {} characters" if bound[1] else "be {} {}"
        return "must " + what.format(_COMPARISONS[bound[2]], bound[3])
    for name, words in _WORDS:
        if f"Expected {name}" in text:
            return words
    return _lower_first(text)


@functools.lru_cache(maxsize=200)
def _choices(hint: Any) -> tuple[str, ...]:
    schema = msgspec.json.schema(hint)
    for each in (schema, *schema.get("anyOf", ()), *schema.get("$defs", {}).values()):
        if "enum" in each:
            return tuple(str(value) for value in each["enum"] if value is not None)
    return ()


def _fault_of(rule: FieldRule, columns: tuple[str, ...]) -> str | None:
    if rule.column is None and rule.constant is None:
        return "The rule has neither a column nor a constant."
    if rule.column is not None and rule.column not in columns:
        return f"There is no column {rule.column!r}; there are {', '.join(map(repr, columns[:20]))}."
    if rule.transform is not None and rule.column is None:
        return "A constant needs no transform."
    return None


def _takes_none(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return _takes_none(get_args(hint)[0])
    return get_origin(hint) in (Union, UnionType) and type(None) in get_args(hint)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
