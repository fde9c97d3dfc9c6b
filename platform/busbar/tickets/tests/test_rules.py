"""The pure rules of tickets: ids, deadlines, the life cycle."""

import re
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busbar.db import execute
from busbar.errors import ForbiddenTransition, RuleViolated
from busbar.kit.working_time import ALWAYS
from busbar.tickets import lifecycle, numbering, sla
from busbar.tickets.lifecycle import STATUSES
from busbar.tickets.tests.desk import Desk

MODULES = st.from_regex(r"[a-z][a-z0-9_]{1,30}", fullmatch=True)
DAYS = st.dates(min_value=date(2000, 1, 1), max_value=date(9999, 12, 31))
NUMBERS = st.integers(1, 10**9)
MOMENTS = st.integers(0, 2**33).map(lambda s: datetime.fromtimestamp(s, UTC))


class TestTicketId:
    @given(MODULES, DAYS, NUMBERS)
    def test_says_module_day_and_number(self, module: str, day: date, number: int) -> None:
        text = numbering.ticket_id(module, day, number)
        assert re.search(numbering.PATTERN, text)
        prefix, said_module, said_day, said_number = text.split("-")
        assert (prefix, said_module) == ("TKT", module.upper())
        assert datetime.strptime(said_day, "%Y%m%d").date() == day  # noqa: DTZ007 - a day has no zone
        assert int(said_number) == number

    @given(MODULES, DAYS, st.tuples(NUMBERS, NUMBERS))
    def test_is_anothers_for_another_number(self, module: str, day: date, numbers: tuple[int, int]) -> None:
        one, two = (numbering.ticket_id(module, day, number) for number in numbers)
        assert (one == two) == (numbers[0] == numbers[1])

    @pytest.mark.parametrize(
        ("number", "end"), [(1, "0001"), (42, "0042"), (9999, "9999"), (10_000, "10000"), (1_234_567, "1234567")]
    )
    def test_has_four_digits_and_grows_past_9999(self, number: int, end: str) -> None:
        assert numbering.ticket_id("pm", date(2026, 11, 23), number) == f"TKT-PM-20261123-{end}"

    @pytest.mark.parametrize(
        "text",
        ["", "TKT-PM-20261123-001", "tkt-pm-20261123-0001", "TKT-PM-2026112-0001", "TKT--20261123-0001", "X-PM-1-0001",
         "TKT-PM-20261123-٠٠٠١", " TKT-PM-20261123-0001"],
    )  # fmt: skip
    def test_is_nothing_else(self, text: str) -> None:
        assert re.search(numbering.PATTERN, text) is None

    @pytest.mark.parametrize("last", [0, 8, 998, 9_997, 9_998, 9_999, 10_000, 99_998, 999_998])
    async def test_is_the_same_in_the_statement_that_opens_tickets(self, desk: Desk, last: int) -> None:
        day = date(2027, 1, 1) + timedelta(days=last)  # one that no other test opens tickets on
        desk.clock.now = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        await execute("insert into core.ticket_counter (module, day, last) values ('tst', $1, $2)", day, last)
        assert [await desk.open() for _ in range(2)] == [numbering.ticket_id("tst", day, last + n) for n in (1, 2)]

    async def test_begins_anew_with_the_utc_day(self, desk: Desk) -> None:
        desk.clock.now = datetime(2025, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
        assert [await desk.open(), await desk.open()] == ["TKT-TST-20251231-0001", "TKT-TST-20251231-0002"]
        desk.clock.advance(seconds=0.000_001)
        assert await desk.open() == "TKT-TST-20260101-0001"


class TestDeadline:
    @pytest.mark.parametrize(("priority", "hours"), [("P1", 4), ("P2", 8), ("P3", 24), ("P4", 72)])
    @given(created_at=MOMENTS)
    def test_follows_the_priority(self, priority: str, hours: int, created_at: datetime) -> None:
        target = sla.TARGETS[sla.STANDARD][priority]
        promise = sla.Promise(
            created_at=created_at, response_s=target.response_s, resolution_s=target.resolution_s, warn_percent=80
        )
        at = sla.moments(promise, ALWAYS)
        assert at.resolution_breached - created_at == timedelta(hours=hours)
        assert at.resolution_warning - created_at == timedelta(hours=hours) * 0.8
        assert at.response_breached is not None
        assert created_at < at.response_breached < at.resolution_breached

    async def test_of_a_new_ticket_is_the_same_in_the_statement_that_opens_it(self, desk: Desk) -> None:
        for priority, target in sla.TARGETS[sla.STANDARD].items():
            ticket = await desk.ticket(await desk.open(priority=priority))
            assert ticket["sla_deadline"] == desk.clock.now + timedelta(seconds=target.resolution_s)
            assert ticket["response_deadline"] == desk.clock.now + timedelta(seconds=target.response_s)
            assert (ticket["sla_class"], ticket["calendar_version"], ticket["sla_round"]) == ("standard", 0, 1)


class TestPath:
    @pytest.mark.parametrize(
        ("previous", "target", "way"),
        [
            ("Open", "Open", ()),
            ("Open", "Assigned", ("Assigned",)),
            ("Open", "In_Progress", ("Assigned", "In_Progress")),
            ("Open", "Closed", ("Assigned", "In_Progress", "Closed")),
            ("Assigned", "Closed", ("In_Progress", "Closed")),
            ("In_Progress", "Closed", ("Closed",)),
            ("Assigned", "Open", ()),
            ("Closed", "Open", ()),
            ("Closed", "In_Progress", ()),
            ("Cancelled", "Closed", ()),
            ("Open", "Cancelled", ()),
            ("Open", "Resolved", ()),
        ],
    )
    def test_walks_forward_only(self, previous: str, target: str, way: tuple[str, ...]) -> None:
        assert lifecycle.path(previous, target) == way

    @given(st.sampled_from(STATUSES), st.sampled_from(STATUSES))
    def test_consists_of_moves_that_are_allowed(self, previous: str, target: str) -> None:
        status = previous
        for step in lifecycle.path(previous, target):
            lifecycle.check_move(status, step, on_hold=False)
            status = step
        assert status in (previous, target)


class TestMove:
    @pytest.mark.parametrize("previous", STATUSES)
    @pytest.mark.parametrize("new", STATUSES)
    def test_is_refused_unless_it_is_one_step_forward(self, previous: str, new: str) -> None:
        if (previous, new) in {("Open", "Assigned"), ("Assigned", "In_Progress"), ("In_Progress", "Closed")}:
            lifecycle.check_move(previous, new, on_hold=False)
            with pytest.raises(RuleViolated, match="resume it first") as refused:
                lifecycle.check_move(previous, new, on_hold=True)
            assert refused.value.code == "BUS_002"
            return
        with pytest.raises(ForbiddenTransition) as refused:
            lifecycle.check_move(previous, new, on_hold=False)
        assert (refused.value.code, refused.value.status) == ("BUS_001", 422)

    def test_that_is_refused_names_the_one_that_is_not(self) -> None:
        with pytest.raises(ForbiddenTransition, match="from Open to Closed; the next status is Assigned"):
            lifecycle.check_move("Open", "Closed", on_hold=False)
        with pytest.raises(ForbiddenTransition, match="from Cancelled to Open; Cancelled is final"):
            lifecycle.check_move("Cancelled", "Open", on_hold=False)
