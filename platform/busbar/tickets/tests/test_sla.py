"""The clock of a promise: holds laid over a calendar, and explanations that add up to the second."""

from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busbar.kit.tests.test_working_time import MOMENTS, OFFICE, calendars
from busbar.kit.working_time import ALWAYS, WorkingTime
from busbar.tickets import sla

SHORT = st.timedeltas(timedelta(0), timedelta(days=3))
TARGETS = st.integers(60, 20 * 86_400)


@st.composite
def holds(draw: st.DrawFn, since: datetime) -> list[sla.Hold]:
    """Times on hold, one after the other."""
    found = []
    at = since
    for work, hold in draw(st.lists(st.tuples(SHORT, SHORT), max_size=5)):
        found.append((at + work, at + work + hold))
        at += work + hold
    return found


@st.composite
def tickets(draw: st.DrawFn) -> tuple[WorkingTime, datetime, list[sla.Hold]]:
    created_at = draw(MOMENTS)
    return draw(calendars() | st.just(ALWAYS) | st.just(OFFICE)), created_at, draw(holds(created_at))


def promise(created_at: datetime, resolution_s: int) -> sla.Promise:
    return sla.Promise(created_at=created_at, response_s=60, resolution_s=resolution_s)


class TestMoments:
    @given(st.lists(st.tuples(SHORT, SHORT)), TARGETS)
    def test_around_the_clock_move_by_the_holds_that_began_before_them(
        self, periods: list[tuple[timedelta, timedelta]], target_s: int
    ) -> None:
        created_at = at = datetime(2026, 11, 23, tzinfo=UTC)
        due = created_at + timedelta(seconds=target_s)
        found = []
        for work, hold in periods:
            at += work
            found.append((at, at + hold))
            if at < due:
                due += hold
            at += hold
        assert sla.moments(promise(created_at, target_s), ALWAYS, found).resolution_breached == due

    @given(tickets(), TARGETS)
    def test_are_the_same_whether_worked_out_at_once_or_hold_by_hold(
        self, ticket: tuple[WorkingTime, datetime, list[sla.Hold]], target_s: int
    ) -> None:
        calendar, created_at, found = ticket
        made = promise(created_at, target_s)
        due = sla.moments(made, calendar).resolution_breached
        for n, (begin, end) in enumerate(found):
            later = sla.moments(made, calendar, found[: n + 1]).resolution_breached
            assert later >= due, "a hold never brings a deadline nearer"
            if begin >= due:
                assert later == due, "what was used up stays used up"
            due = max(due, later)
            assert end >= begin

    def test_stand_still_for_a_hold_outside_of_working_hours(self) -> None:
        created_at = datetime(2026, 11, 23, 14, tzinfo=UTC)  # Monday 15:00 in Berlin, one hour before the end
        night = [(datetime(2026, 11, 23, 16, tzinfo=UTC), datetime(2026, 11, 24, 5, tzinfo=UTC))]
        into_the_day = [(datetime(2026, 11, 23, 16, tzinfo=UTC), datetime(2026, 11, 24, 6, 30, tzinfo=UTC))]
        made = promise(created_at, 2 * 3_600)
        without = sla.moments(made, OFFICE).resolution_breached
        assert sla.moments(made, OFFICE, night).resolution_breached == without
        assert sla.moments(made, OFFICE, into_the_day).resolution_breached == without + timedelta(minutes=30)

    @given(tickets(), TARGETS, st.integers(1, 99))
    def test_warn_before_the_deadline(
        self, ticket: tuple[WorkingTime, datetime, list[sla.Hold]], target_s: int, percent: int
    ) -> None:
        calendar, created_at, found = ticket
        made = sla.Promise(created_at=created_at, response_s=None, resolution_s=target_s, warn_percent=percent)
        at = sla.moments(made, calendar, found)
        assert created_at < at.resolution_warning < at.resolution_breached
        assert (at.response_warning, at.response_breached) == (None, None)


class TestExplanation:
    @given(tickets(), TARGETS, st.timedeltas(timedelta(0), timedelta(days=40)), st.booleans())
    def test_adds_up_to_the_second(
        self,
        ticket: tuple[WorkingTime, datetime, list[sla.Hold]],
        target_s: int,
        age: timedelta,
        finished: bool,
    ) -> None:
        calendar, created_at, found = ticket
        end = max([created_at + age, *(until for _, until in found)])
        storm = (created_at + age / 3, created_at + age / 2)
        told = sla.explain(
            sla.timeline(calendar, created_at, found), target_s=target_s, end=end, finished=finished, storm=storm
        )
        past = [each for each in told.segments if not each.ahead]
        ahead = [each for each in told.segments if each.ahead]
        assert sum(each.counted_s for each in past) == told.consumed_s
        assert told.consumed_s + told.remaining_s == target_s
        assert [each.total_s for each in told.segments] == list(accumulate(each.counted_s for each in told.segments))
        assert all(one.span.end == other.span.start for one, other in pairwise(told.segments))
        assert told.deadline == sla.moments(promise(created_at, target_s), calendar, found).resolution_breached
        if end > created_at:
            assert (past[0].span.start, past[-1].span.end) == (created_at, end)
        if not finished and told.deadline > end:
            assert sum(each.counted_s for each in ahead) == told.remaining_s
            assert ahead[-1].span.end == told.deadline
            assert ahead[-1].total_s == target_s
        else:
            assert ahead == []
        if told.deadline < end and not any(each.span.kind == sla.SEVERAL for each in past):
            assert {each.total_s for each in past if each.span.end == told.deadline} == {target_s}

    def test_names_each_kind_of_time(self) -> None:
        created_at = datetime(2026, 11, 23, 13, 30, 0, 250_000, tzinfo=UTC)  # Monday, 14:30 in Berlin
        held = [(created_at + timedelta(minutes=30), created_at + timedelta(minutes=45))]
        storm = (created_at + timedelta(hours=1), created_at + timedelta(hours=10))
        end = created_at + timedelta(hours=2)
        told = sla.explain(
            sla.timeline(OFFICE, created_at, held), target_s=4 * 3_600, end=end, finished=False, storm=storm
        )
        assert [(each.span.kind, each.counted_s, each.ahead) for each in told.segments] == [
            ("working", 1_800, False),
            ("on_hold", 0, False),
            ("working", 900, False),
            ("storm", 1_799, False),
            ("outside_hours", 0, False),
            ("outside_hours", 0, True),
            ("working", 9_901, True),
        ]
        assert (told.consumed_s, told.remaining_s) == (4_499, 9_901)

    def test_of_many_years_is_bounded_and_adds_up_all_the_same(self) -> None:
        created_at = datetime(2020, 1, 1, tzinfo=UTC)
        end = created_at + timedelta(days=3_000)
        told = sla.explain(sla.timeline(OFFICE, created_at, []), target_s=60, end=end, finished=False, storm=None)
        assert len(told.segments) == sla.SEGMENTS_MAX
        assert sum(each.counted_s for each in told.segments) == told.consumed_s
        assert all(one.span.end == other.span.start for one, other in pairwise(told.segments))

    @pytest.mark.parametrize(("day", "hours"), [(29, 23), (30, 24)])
    def test_counts_a_short_day_in_spring_as_short(self, day: int, hours: int) -> None:
        berlin = ZoneInfo("Europe/Berlin")
        calendar = WorkingTime(berlin, {0: [(0, 1_440)], 6: [(0, 1_440)]}, {})
        begin = datetime(2026, 3, day, tzinfo=berlin).astimezone(UTC)
        end = datetime(2026, 3, day + 1, tzinfo=berlin).astimezone(UTC)
        told = sla.explain(sla.timeline(calendar, begin, []), target_s=3_600, end=end, finished=True, storm=None)
        assert told.consumed_s == hours * 3_600
        assert told.remaining_s == 3_600 - hours * 3_600


class TestAlerts:
    AT = sla.Moments(*(datetime(2026, 11, 23, hour, tzinfo=UTC) for hour in (1, 2, 5, 8)))

    def due(self, hour: float, **more: object) -> tuple[str, ...]:
        given = {"sent": (), "responded_at": None, "stopped_at": None, **more}
        return sla.due_alerts(self.AT, now=datetime(2026, 11, 23, tzinfo=UTC) + timedelta(hours=hour), **given)

    def test_are_due_from_their_moment_on_in_order(self) -> None:
        assert self.due(0.9) == ()
        assert self.due(1) == ("response_warning",)
        assert self.due(9) == ("response_warning", "response_breached", "resolution_warning", "resolution_breached")

    def test_that_were_sent_are_not_due_again(self) -> None:
        assert self.due(9, sent=("response_warning", "resolution_warning")) == (
            "response_breached",
            "resolution_breached",
        )

    def test_are_not_due_for_what_was_kept(self) -> None:
        assert self.due(9, responded_at=self.AT.response_breached) == (
            "response_warning",
            "resolution_warning",
            "resolution_breached",
        )
        assert self.due(9, stopped_at=datetime(2026, 11, 23, 3, tzinfo=UTC)) == (
            "response_warning",
            "response_breached",
        )

    def test_that_come_next_leave_out_the_response_that_was_given(self) -> None:
        midnight = datetime(2026, 11, 23, tzinfo=UTC)
        assert sla.next_alert(self.AT, now=midnight, responded_at=None) == self.AT.response_warning
        assert sla.next_alert(self.AT, now=midnight, responded_at=midnight) == self.AT.resolution_warning
        assert sla.next_alert(self.AT, now=self.AT.resolution_breached, responded_at=None) is None
