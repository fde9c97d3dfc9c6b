"""Working time: hours on the wall, days of 23 and 25 hours, holidays."""

from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busbar.kit.working_time import ALWAYS, HOLIDAY, OUTSIDE_HOURS, WORKING, WorkingTime

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = st.sampled_from(["Europe/Berlin", "UTC", "Asia/Kolkata", "Australia/Lord_Howe", "Asia/Beirut"])
MOMENTS = st.integers(1_704_067_200_000_000, 1_830_297_600_000_000).map(
    lambda microseconds: datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)
)
"""From 2024 to 2028."""
OFFICE = WorkingTime(BERLIN, {day: [(7 * 60, 12 * 60), (13 * 60, 16 * 60)] for day in range(5)}, {})


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


@st.composite
def calendars(draw: st.DrawFn) -> WorkingTime:
    """Any weekly hours and holidays with some working time."""
    hours: dict[int, list[tuple[int, int]]] = {}
    for day in range(7):
        edges = sorted(draw(st.sets(st.integers(0, 1_440), max_size=6)))
        hours[day] = list(zip(edges[::2], edges[1::2], strict=False))
    hours[draw(st.integers(0, 6))] = [(0, 1_440)]
    free = draw(st.sets(st.dates(date(2024, 1, 1), date(2028, 1, 1)), max_size=20))
    return WorkingTime(ZoneInfo(draw(ZONES)), hours, dict.fromkeys(free, "a feast"))


def worked(calendar: WorkingTime, since: datetime, until: datetime) -> timedelta:
    """The working time of a period, read off its pieces."""
    total = timedelta(0)
    for span in calendar.spans(since):
        if span.start >= until:
            return total
        if span.kind == WORKING:
            total += min(span.end, until) - span.start
    raise AssertionError("time has no end")


class TestSpans:
    @given(calendars(), MOMENTS)
    def test_have_no_gap_and_no_overlap(self, calendar: WorkingTime, since: datetime) -> None:
        spans = list(islice(calendar.spans(since), 60))
        assert spans[0].start == since
        assert all(span.start < span.end for span in spans)
        assert all(one.end == other.start for one, other in pairwise(spans))

    def test_say_what_kind_of_time_it_is(self) -> None:
        calendar = WorkingTime(BERLIN, {4: [(480, 1_020)]}, {date(2026, 12, 25): "Christmas Day"})
        friday = utc(2026, 12, 17, 23)
        kinds = [(span.start.hour, span.kind) for span in islice(calendar.spans(friday), 3)]
        assert kinds == [(23, OUTSIDE_HOURS), (7, WORKING), (16, OUTSIDE_HOURS)]
        christmas = next(calendar.spans(utc(2026, 12, 25, 9)))
        assert (christmas.kind, christmas.note, christmas.end) == (HOLIDAY, "Christmas Day", utc(2026, 12, 25, 23))


class TestDaylightSavingTime:
    @pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 6, 7), 24)])
    def test_a_day_lasts_as_long_as_on_the_wall(self, day: tuple[int, int, int], hours: int) -> None:
        all_day = WorkingTime(BERLIN, {6: [(0, 1_440)]}, {})
        midnight = datetime(*day, tzinfo=BERLIN).astimezone(UTC)
        assert worked(all_day, midnight, midnight + timedelta(hours=30)) == timedelta(hours=hours)

    def test_hours_begin_by_the_wall_before_and_after_the_change(self) -> None:
        friday_late, monday = utc(2026, 3, 27, 15), utc(2026, 3, 30, 5)
        assert OFFICE.after(friday_late, timedelta(minutes=1)) == monday + timedelta(minutes=1), "07:00 in summer time"
        friday_late, monday = utc(2026, 10, 23, 14), utc(2026, 10, 26, 6)
        assert OFFICE.after(friday_late, timedelta(minutes=1)) == monday + timedelta(minutes=1), "07:00 in winter time"

    def test_a_time_that_the_clocks_jump_over_is_the_moment_of_the_jump(self) -> None:
        night = WorkingTime(BERLIN, {6: [(120, 150), (150, 300)]}, {})
        spans = [span for span in islice(night.spans(utc(2026, 3, 28, 23)), 3) if span.kind == WORKING]
        assert [(span.start, span.end) for span in spans] == [(utc(2026, 3, 29, 1), utc(2026, 3, 29, 3))]

    def test_a_time_that_comes_twice_is_the_first(self) -> None:
        night = WorkingTime(BERLIN, {6: [(0, 150), (150, 240)]}, {})
        spans = list(islice(night.spans(utc(2026, 10, 24, 22)), 2))
        assert [(span.start, span.end) for span in spans] == [
            (utc(2026, 10, 24, 22), utc(2026, 10, 25, 0, 30)),
            (utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 3)),
        ]


class TestAfter:
    @given(calendars(), MOMENTS, st.timedeltas(timedelta(0), timedelta(days=30)))
    def test_is_the_first_moment_at_which_so_much_was_worked(
        self, calendar: WorkingTime, since: datetime, amount: timedelta
    ) -> None:
        end = calendar.after(since, amount)
        assert worked(calendar, since, end) == amount
        if amount > timedelta(0):
            assert worked(calendar, since, end - timedelta(microseconds=1)) < amount

    @given(calendars(), MOMENTS, *[st.timedeltas(timedelta(0), timedelta(days=20))] * 2)
    def test_comes_later_for_more_work_and_for_a_later_start(
        self, calendar: WorkingTime, since: datetime, amount: timedelta, more: timedelta
    ) -> None:
        assert calendar.after(since, amount) <= calendar.after(since, amount + more)
        assert calendar.after(since, amount) <= calendar.after(since + more, amount)

    @given(MOMENTS, st.timedeltas(timedelta(0), timedelta(days=30)))
    def test_around_the_clock_is_plain_addition(self, since: datetime, amount: timedelta) -> None:
        assert ALWAYS.after(since, amount) == since + amount
        days = WorkingTime(BERLIN, None, {date(1999, 1, 1): "long ago"})
        assert days.after(since, amount) == since + amount

    def test_at_the_end_of_a_working_day_is_that_end_and_not_the_next_morning(self) -> None:
        assert OFFICE.after(utc(2026, 11, 23, 14), timedelta(hours=1)) == utc(2026, 11, 23, 15)

    def test_leaves_holidays_out(self) -> None:
        calendar = WorkingTime(BERLIN, {day: [(420, 960)] for day in range(5)}, {date(2026, 12, 25): "Christmas Day"})
        # Thursday the 24th, 15:00 in Berlin: one hour today, the second one on Monday.
        assert calendar.after(utc(2026, 12, 24, 14), timedelta(hours=2)) == utc(2026, 12, 28, 7)
