"""Lists in pages: `{items, total, next}`, an opaque cursor, sorting by named columns, and the SQL for both (SPEC).

A cursor holds the sort values of the last row (keyset), so that a page costs the same wherever it is, and rows that
come or go between two pages neither repeat nor hide others. A list is put together like this:

    asked = page_request(limit=limit, cursor=cursor, sort=sort, columns=SORTS, default="-created_at", key="ticket_id")
    where = Where("site_id = $1", site)
    where.add("status = {}", status)
    return await fetch_page(asked, where, columns="ticket_id, title", source="core.ticket", to_item=to_ticket)
"""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec
from litestar.params import QueryParameter

from busbar.db import fetch, fetchval
from busbar.errors import BadFormat, FieldError, InvalidPayload
from busbar.web.conditions import Where
from busbar.web.text import SINGLE_LINE

T = TypeVar("T")

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 200
TOTAL_MAX: Final = 10_000
"""`total` is exact up to here; beyond, it is this number and marked as a floor."""
CURSOR_CHARACTERS_MAX: Final = 2_000
SORT_KEYS_MAX: Final = 3

LimitParameter = Annotated[int, QueryParameter(name="limit", ge=1, le=LIMIT_MAX, description="Items of a page.")]
CursorParameter = Annotated[
    str | None,
    QueryParameter(
        name="cursor",
        max_length=CURSOR_CHARACTERS_MAX,
        pattern=r"^[A-Za-z0-9_-]*$",
        description="`next` of the page before; leave it out for the first page.",
    ),
]
SortParameter = Annotated[
    str | None,
    QueryParameter(
        name="sort",
        max_length=200,
        pattern=r"^[a-z0-9_,-]*$",
        description="Columns, separated by commas; - before a column sorts it descending.",
    ),
]
SearchParameter = Annotated[
    str | None, QueryParameter(name="text", max_length=200, pattern=SINGLE_LINE, description="Words to look for.")
]


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One page of a list."""

    items: tuple[T, ...]
    total: int
    """How many there are on all pages: exact up to 10,000, then 10,000."""
    total_is_floor: bool = False
    """Whether there are more than `total`."""
    next: str | None = None
    """The cursor of the next page; null on the last."""


class SortColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A column by which a list may be sorted."""

    sql: str
    """The SQL expression; a constant of our code, never a caller's text."""
    type: Any
    """The Python type of its values, to read them back from a cursor."""
    nullable: bool = False


class SortKey(msgspec.Struct, frozen=True, kw_only=True):
    """One column of an order. NULLs come last ascending and first descending, as PostgreSQL's indexes have them."""

    name: str
    column: SortColumn
    descending: bool = False


class PageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A page that was asked for, checked."""

    limit: int
    order: tuple[SortKey, ...]
    """Ends with the unique key of the rows, so that no two rows are equal."""
    values: tuple[Any, ...] | None = None
    """The sort values of the last row of the page before; None on the first page."""

    @property
    def order_by(self) -> str:
        """What follows ORDER BY."""
        return ", ".join(f"{key.column.sql} {'DESC' if key.descending else 'ASC'}" for key in self.order)

    @property
    def fetch_count(self) -> int:
        """Rows to ask for: one more than the page holds, to see whether there is a next one."""
        return self.limit + 1

    def after(self, *, first_parameter: int) -> tuple[str, list[Any]]:
        """A condition that holds for the rows after the cursor, and its values, numbered from `$first_parameter`."""
        if self.values is None:
            return "true", []
        return keyset_condition(self.order, self.values, first_parameter=first_parameter)

    def page(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        to_item: Callable[[Any], T],
        counted: int,
        sort_value: Callable[[Any, str], Any] = lambda row, name: row[name],
    ) -> Page[T]:
        """The page made of up to `fetch_count` rows.

        `counted` is the answer to `count_sql`. Each row has the sort columns under their names, or
        `sort_value(row, name)` finds them.
        """
        kept = rows[: self.limit]
        following = None
        if len(rows) > self.limit:
            values = [sort_value(kept[-1], key.name) for key in self.order]
            following = encode_cursor(self.order, values)
        total, is_floor = total_of(counted)
        return Page(items=tuple(to_item(row) for row in kept), total=total, total_is_floor=is_floor, next=following)


def page_request(
    *,
    limit: int = LIMIT_DEFAULT,
    cursor: str | None,
    sort: str | None,
    columns: Mapping[str, SortColumn],
    default: str,
    key: str,
) -> PageRequest:
    """Check what a caller asks for. `columns` are the names it may sort by; `key` is the one that is unique.

    Raises:
        InvalidPayload: the limit is out of bounds, or a sort column is unknown or named twice.
        BadFormat: the cursor is not one of ours, or belongs to another order.
    """
    if not 1 <= limit <= LIMIT_MAX:
        raise _refused("limit", f"Must be 1 to {LIMIT_MAX}.")
    order = parse_sort(sort or default, columns=columns, key=key)
    return PageRequest(limit=limit, order=order, values=decode_cursor(cursor, order) if cursor else None)


async def fetch_page(
    asked: PageRequest, where: Where, *, columns: str, source: str, to_item: Callable[[Any], T]
) -> Page[T]:
    """The page of what `where` lets pass of `source`, a table or a join; `columns` has the columns of each order."""
    after, after_values = asked.after(first_parameter=len(where.values) + 1)
    rows = await fetch(
        f"select {columns} from {source} where {where.sql} and {after} "
        f"order by {asked.order_by} limit {asked.fetch_count}",
        *where.values,
        *after_values,
    )
    counted = await fetchval(count_sql(f"{source} where {where.sql}"), *where.values)
    return asked.page(rows, to_item=to_item, counted=counted)


def parse_sort(sort: str, *, columns: Mapping[str, SortColumn], key: str) -> tuple[SortKey, ...]:
    """Read `-created_at,priority`; the unique `key` is added at the end if it is not named.

    Raises:
        InvalidPayload: naming the columns that may be used.
    """
    order: list[SortKey] = []
    for part in sort.split(","):
        name = part.removeprefix("-")
        column = columns.get(name)
        if column is None:
            raise _refused("sort", f"Can be sorted by {', '.join(sorted(columns))}; {name!r} is not among them.")
        if any(each.name == name for each in order):
            raise _refused("sort", f"{name} is named twice.")
        order.append(SortKey(name=name, column=column, descending=part.startswith("-")))
    if len(order) > SORT_KEYS_MAX:
        raise _refused("sort", f"At most {SORT_KEYS_MAX} columns.")
    if all(each.name != key for each in order):
        order.append(SortKey(name=key, column=columns[key], descending=order[-1].descending))
    return tuple(order)


def keyset_condition(order: Sequence[SortKey], values: Sequence[Any], *, first_parameter: int) -> tuple[str, list[Any]]:
    """A condition that holds for exactly the rows that come after a row with these sort values, with NULLs in order."""
    if all(not key.column.nullable for key in order) and len({key.descending for key in order}) == 1:
        # A comparison of rows is one range of a composite index.
        left = ", ".join(key.column.sql for key in order)
        right = ", ".join(f"${first_parameter + index}" for index in range(len(order)))
        return f"({left}) {'<' if order[0].descending else '>'} ({right})", list(values)
    arguments: list[Any] = []
    alternatives: list[str] = []
    equal_before: list[str] = []
    for key, value in zip(order, values, strict=True):
        sql = key.column.sql
        if value is None:
            beyond = f"{sql} IS NOT NULL" if key.descending else None
            equal = f"{sql} IS NULL"
        else:
            arguments.append(value)
            parameter = f"${first_parameter + len(arguments) - 1}"
            beyond = f"{sql} {'<' if key.descending else '>'} {parameter}"
            if key.column.nullable and not key.descending:
                beyond = f"({beyond} OR {sql} IS NULL)"
            equal = f"{sql} = {parameter}"
        if beyond is not None:
            alternatives.append(" AND ".join([*equal_before, beyond]))
        equal_before.append(equal)
    return "(" + " OR ".join(f"({each})" for each in alternatives or ["false"]) + ")", arguments


def count_sql(from_where: str) -> str:
    """A statement that counts the rows of `<table> WHERE …`, and stops when there are more than `total` can say."""
    return f"SELECT count(*) FROM (SELECT 1 FROM {from_where} LIMIT {TOTAL_MAX + 1}) AS counted"


def total_of(counted: int) -> tuple[int, bool]:
    """The total to show, and whether it is only a floor."""
    return (TOTAL_MAX, True) if counted > TOTAL_MAX else (counted, False)


def encode_cursor(order: Sequence[SortKey], values: Sequence[Any]) -> str:
    """The sort values of a row as text that is safe in an address."""
    text = msgspec.json.encode([_signature(order), list(values)])
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def decode_cursor(cursor: str, order: Sequence[SortKey]) -> tuple[Any, ...]:
    """The sort values in a cursor.

    Raises:
        BadFormat: it was not made by `encode_cursor`, or for another order.
    """
    try:
        if len(cursor) > CURSOR_CHARACTERS_MAX:
            raise ValueError("too long")
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        signature, values = msgspec.json.decode(text, type=tuple[str, list[Any]])
        if signature != _signature(order) or len(values) != len(order):
            raise ValueError("another order")
        return tuple(_value(value, key) for value, key in zip(values, order, strict=True))
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError):
        raise BadFormat(
            "The cursor is not one of this list and order; start again without it.",
            errors=[FieldError(field="cursor", message="Not a cursor of this list and order.")],
        ) from None


def _value(value: Any, key: SortKey) -> Any:
    if value is None:
        if not key.column.nullable:
            raise ValueError("a null where there is none")
        return None
    converted = msgspec.convert(value, key.column.type)
    if isinstance(converted, str) and "\x00" in converted:
        raise ValueError("a NUL character")
    if isinstance(converted, int) and not -(2**63) <= converted < 2**63:
        raise ValueError("beyond 64 bits")
    return converted


def _signature(order: Sequence[SortKey]) -> str:
    return ",".join(f"-{key.name}" if key.descending else key.name for key in order)


def _refused(field: str, message: str) -> InvalidPayload:
    return InvalidPayload(f"Not accepted: {field}.", errors=[FieldError(field=field, message=message)])


def columns_of(view: type[msgspec.Struct], *, leave_out: Sequence[str] = ()) -> str:
    """The columns that a view is read from: they have its fields' names, but for the site's, which is `site_id`."""
    names = [name for name in view.__struct_fields__ if name not in leave_out]
    return ", ".join("site_id as site" if name == "site" else name for name in names)
