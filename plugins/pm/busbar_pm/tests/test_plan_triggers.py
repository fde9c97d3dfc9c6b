"""The rules by which maintenance falls due, against plain reference definitions."""

from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from busbar_pm.plan_triggers import (
    Calendar,
    Condition,
    IncidentTrigger,
    Meter,
    count_until,
    due_dates,
    first_due_from,
    judge,
    meter_due,
    nth_due,
    trigger_errors,
)

DAYS = st.dates(date(1990, 1, 1), date(2060, 12, 31))
CALENDARS = st.builds(
    Calendar, every=st.integers(1, 40), unit=st.sampled_from(["days", "weeks", "months"]), first_due=DAYS
)
AMOUNTS = st.decimals(Decimal("-1000"), Decimal("1000"), places=3)
POSITIVE = st.decimals(Decimal("0.001"), Decimal("500"), places=3)


class TestACalendar:
    @given(calendar=CALENDARS, day=DAYS)
    def test_counts_the_dates_that_one_would_count_by_hand(self, calendar: Calendar, day: date) -> None:
        assume((day - calendar.first_due).days < 3_000)
        by_hand = 0
        while (due := nth_due(calendar, by_hand)) is not None and due <= day:
            by_hand += 1
        assert count_until(calendar, day) == by_hand

    @given(calendar=CALENDARS, today=DAYS, wait=st.integers(0, 900))
    def test_calls_every_date_once_whenever_one_looks(self, calendar: Calendar, today: date, wait: int) -> None:
        seen: list[date | None] = []
        next_due: date | None = calendar.first_due
        for look in (today, today, today + timedelta(days=wait), today + timedelta(days=wait)):
            if next_due is not None and (due := due_dates(calendar, next_due=next_due, until=look)) is not None:
                assert due.latest <= look
                assert due.following is None or due.following > look
                seen += [None] * due.covered + [due.latest]
                next_due = due.following
        assert len(seen) == count_until(calendar, today + timedelta(days=wait))

    def test_of_months_comes_back_to_the_31st(self) -> None:
        calendar = Calendar(every=1, unit="months", first_due=date(2027, 1, 31))
        dates = [nth_due(calendar, n) for n in range(4)]
        assert dates == [date(2027, 1, 31), date(2027, 2, 28), date(2027, 3, 31), date(2027, 4, 30)]

    @given(calendar=CALENDARS, day=DAYS)
    def test_resumes_on_the_first_date_that_has_not_passed(self, calendar: Calendar, day: date) -> None:
        due = first_due_from(calendar, day)
        assert due is not None and due >= day
        assert due == nth_due(calendar, count_until(calendar, due) - 1)
        assert count_until(calendar, due) == count_until(calendar, day - timedelta(days=1)) + 1

    @pytest.mark.parametrize("unit", ["days", "weeks", "months"])
    def test_ends_with_the_calendar_of_dates(self, unit: str) -> None:
        calendar = Calendar(every=1_200, unit=unit, first_due=date(9999, 6, 30))  # type: ignore[arg-type]
        due = due_dates(calendar, next_due=date(9999, 6, 30), until=date(9999, 12, 31))
        assert due is not None
        assert (due.latest, due.following) == (date(9999, 6, 30), None)


class TestAMeter:
    @given(every=POSITIVE, start=POSITIVE, readings=st.lists(POSITIVE.map(lambda v: v * 10), max_size=12))
    def test_calls_once_for_each_due_reading_that_is_reached(
        self, every: Decimal, start: Decimal, readings: list[Decimal]
    ) -> None:
        meter = Meter(measurement="hours", every=every, start=start)
        next_value, stood_for = start + every, 0
        for value in readings:
            if (due := meter_due(meter, next_value=next_value, value=value)) is not None:
                assert due.reading <= value < due.following
                stood_for += due.covered + 1
                next_value = due.following
        highest = max(readings, default=Decimal(0))
        assert stood_for == max(0, int((highest - start) // every))

    def test_calls_ahead_of_the_due_reading(self) -> None:
        meter = Meter(measurement="hours", every=Decimal(1000), ahead=Decimal(50))
        assert meter_due(meter, next_value=Decimal(1000), value=Decimal("949.9")) is None
        due = meter_due(meter, next_value=Decimal(1000), value=Decimal(950))
        assert due is not None
        assert (due.reading, due.covered, due.following) == (1000, 0, 2000)

    def test_cannot_call_more_ahead_than_it_counts(self) -> None:
        errors = trigger_errors(Meter(measurement="hours", every=Decimal(10), ahead=Decimal(10)))
        assert [error.field for error in errors] == ["trigger.ahead"]


class TestACondition:
    @given(limit=AMOUNTS, hysteresis=POSITIVE, readings=st.lists(AMOUNTS, max_size=30), is_upper=st.booleans())
    def test_calls_again_only_after_a_reading_that_was_back(
        self, limit: Decimal, hysteresis: Decimal, readings: list[Decimal], is_upper: bool
    ) -> None:
        side = {"above": limit} if is_upper else {"below": limit}
        condition = Condition(measurement="temperature", hysteresis=hysteresis, **side)
        armed, due_at = True, []
        for place, value in enumerate(readings):
            state = judge(condition, armed=armed, value=value)
            armed = state.armed
            if state.due:
                due_at.append(place)
        sign = 1 if is_upper else -1
        for place in due_at:
            assert sign * readings[place] > sign * limit
        for before, after in pairwise(due_at):
            between = readings[before + 1 : after]
            assert any(sign * value <= sign * limit - hysteresis for value in between)
        first_beyond = next((n for n, value in enumerate(readings) if sign * value > sign * limit), None)
        assert due_at[:1] == ([] if first_beyond is None else [first_beyond])

    def test_has_one_limit(self) -> None:
        for sides in ({}, {"above": Decimal(1), "below": Decimal(0)}):
            errors = trigger_errors(Condition(measurement="level", **sides))
            assert [error.field for error in errors] == ["trigger.above"]


class TestWaitingForIncidents:
    @given(
        faults=st.sets(st.sampled_from(["fault", "outage", "degradation"])),
        severities=st.sets(st.sampled_from(["P1", "P2", "P3", "P4"])),
        fault=st.sampled_from(["fault", "outage", "degradation"]),
        severity=st.sampled_from(["P1", "P2", "P3", "P4"]),
    )
    def test_takes_all_where_none_is_named(
        self, faults: set[str], severities: set[str], fault: str, severity: str
    ) -> None:
        trigger = IncidentTrigger(fault_types=tuple(faults), severities=tuple(severities))  # type: ignore[arg-type]
        wanted = fault in (faults or {fault}) and severity in (severities or {severity})
        assert trigger.wants(fault, severity) is wanted
