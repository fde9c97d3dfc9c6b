"""Pages: cursors, orders, and the condition that finds the rows after a cursor, asked of PostgreSQL itself."""

import datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from busbar.db import fetch, fetchval
from busbar.errors import BadFormat, InvalidPayload
from busbar.web.pagination import (
    TOTAL_MAX,
    Page,
    SortColumn,
    count_sql,
    decode_cursor,
    encode_cursor,
    page_request,
    parse_sort,
)

COLUMNS = {
    "ticket_id": SortColumn(sql="ticket_id", type=int),
    "priority": SortColumn(sql="priority", type=str, nullable=True),
    "created_at": SortColumn(sql="created_at", type=datetime.datetime),
    "amount": SortColumn(sql="amount", type=Decimal, nullable=True),
}
ROWS = """(
    SELECT * FROM unnest($1::int[], $2::text[], $3::timestamptz[], $4::numeric[])
    AS given (ticket_id, priority, created_at, amount)
) AS t"""

rows_of_tickets = st.lists(
    st.tuples(
        st.one_of(st.none(), st.sampled_from(["P1", "P2", "P3"])),
        st.datetimes(
            min_value=datetime.datetime.fromisoformat("2026-01-01"),
            max_value=datetime.datetime.fromisoformat("2026-01-01T00:00:03"),
            timezones=st.just(datetime.UTC),
        ),
        st.one_of(st.none(), st.decimals(0, 3, places=1)),
    ),
    max_size=25,
)
orders = st.lists(
    st.sampled_from(["priority", "created_at", "amount", "ticket_id"]), min_size=1, max_size=3, unique=True
)


async def all_pages(arguments: list[list[Any]], *, sort: str, limit: int) -> list[int]:
    found: list[int] = []
    cursor = None
    while True:
        asked = page_request(
            limit=limit, cursor=cursor, sort=sort, columns=COLUMNS, default="-created_at", key="ticket_id"
        )
        after, values = asked.after(first_parameter=5)
        rows = await fetch(
            f"SELECT * FROM {ROWS} WHERE {after} ORDER BY {asked.order_by} LIMIT {asked.fetch_count}",
            *arguments,
            *values,
        )
        page = asked.page(rows, to_item=lambda row: row["ticket_id"], counted=len(arguments[0]))
        assert len(page.items) <= limit
        found.extend(page.items)
        if page.next is None:
            return found
        cursor = page.next


class TestPagesOfAnyOrder:
    @given(
        rows=rows_of_tickets,
        names=orders,
        directions=st.lists(st.booleans(), min_size=3, max_size=3),
        limit=st.integers(1, 7),
    )
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    async def test_show_every_row_once_and_in_order(self, database: str, rows, names, directions, limit) -> None:
        sort = ",".join(f"-{name}" if down else name for name, down in zip(names, directions, strict=False))
        arguments = [list(range(len(rows))), *(list(column) for column in zip(*rows, strict=True))]
        arguments += [[]] * (4 - len(arguments))
        order = parse_sort(sort, columns=COLUMNS, key="ticket_id")
        order_by = ", ".join(f"{key.column.sql} {'DESC' if key.descending else 'ASC'}" for key in order)
        expected = [row["ticket_id"] for row in await fetch(f"SELECT * FROM {ROWS} ORDER BY {order_by}", *arguments)]
        assert await all_pages(arguments, sort=sort, limit=limit) == expected

    async def test_stop_counting_at_the_floor(self, database: str) -> None:
        counted = await fetchval(count_sql("generate_series(1, 1000000)"))
        assert counted == TOTAL_MAX + 1
        asked = page_request(limit=1, cursor=None, sort=None, columns=COLUMNS, default="ticket_id", key="ticket_id")
        page: Page[int] = asked.page([], to_item=lambda row: 0, counted=counted)
        assert (page.total, page.total_is_floor) == (10_000, True)


class TestSort:
    def test_ends_with_the_unique_key(self) -> None:
        order = parse_sort("-priority,created_at", columns=COLUMNS, key="ticket_id")
        assert [(key.name, key.descending) for key in order] == [
            ("priority", True), ("created_at", False), ("ticket_id", False)
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "sort", ["password", "priority;drop", "", ",", "-", "--priority", "priority,priority", "priority,-priority",
                 "priority,created_at,amount,ticket_id"]
    )  # fmt: skip
    def test_by_anything_else_is_refused(self, sort: str) -> None:
        with pytest.raises(InvalidPayload) as refused:
            parse_sort(sort, columns=COLUMNS, key="ticket_id")
        assert refused.value.errors[0].field == "sort"

    def test_one_direction_without_nulls_compares_rows_so_that_an_index_serves(self) -> None:
        order = parse_sort("-created_at", columns=COLUMNS, key="ticket_id")
        now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        asked = page_request(
            limit=5, cursor=encode_cursor(order, [now, 7]), sort="-created_at", columns=COLUMNS, default="-created_at",
            key="ticket_id",
        )  # fmt: skip
        assert asked.after(first_parameter=3) == ("(created_at, ticket_id) < ($3, $4)", [now, 7])


class TestCursor:
    ORDER = parse_sort("priority,-created_at,amount", columns=COLUMNS, key="ticket_id")

    @given(
        priority=st.none() | st.text(st.characters(exclude_categories=("Cs", "Cc"))),
        moment=st.datetimes(timezones=st.just(datetime.UTC)),
        amount=st.none()
        | st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-1000, max_value=1000),
        ticket_id=st.integers(-(2**63), 2**63 - 1),
    )
    def test_gives_back_what_went_in(self, priority, moment, amount, ticket_id) -> None:
        values = (priority, moment, amount, ticket_id)
        cursor = encode_cursor(self.ORDER, values)
        assert set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
        assert decode_cursor(cursor, self.ORDER) == values

    @given(st.text(max_size=200))
    def test_made_by_somebody_else_is_refused(self, cursor: str) -> None:
        with pytest.raises(BadFormat):
            decode_cursor(cursor, self.ORDER)

    @pytest.mark.parametrize(
        "values",
        [
            ["P1", "2026-01-01T00:00:00Z", "1.5"],
            ["P1", "yesterday", "1.5", 1],
            ["P1", None, "1.5", 1],
            ["P\x00", "2026-01-01T00:00:00Z", "1.5", 1],
            ["P1", "2026-01-01T00:00:00Z", "1.5", "1"],
            [{"$gt": ""}, "2026-01-01T00:00:00Z", "1.5", 1],
        ],
    )
    def test_with_values_of_another_kind_is_refused(self, values: list[Any]) -> None:
        with pytest.raises(BadFormat):
            decode_cursor(encode_cursor(self.ORDER, values), self.ORDER)

    def test_of_another_order_is_refused(self) -> None:
        other = parse_sort("ticket_id", columns=COLUMNS, key="ticket_id")
        with pytest.raises(BadFormat):
            decode_cursor(encode_cursor(other, [1]), self.ORDER)

    @pytest.mark.parametrize("limit", [0, -1, 201])
    def test_goes_with_a_limit_within_bounds(self, limit: int) -> None:
        with pytest.raises(InvalidPayload):
            page_request(limit=limit, cursor=None, sort=None, columns=COLUMNS, default="ticket_id", key="ticket_id")


class TestPage:
    def test_is_written_as_items_total_and_next(self) -> None:
        assert msgspec.to_builtins(Page(items=(1,), total=1)) == {
            "items": (1,), "total": 1, "total_is_floor": False, "next": None
        }  # fmt: skip
