"""The rules of reliability indices, by themselves."""

import math
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busbar_pm.indices import (
    Grouping,
    Tally,
    indices,
    periods,
    threshold_for,
    threshold_of,
)

MINUTE_US = 60_000_000
YEAR_US = 365 * 1_440 * MINUTE_US
COUNTS = st.integers(0, 10**6)
TALLIES = st.builds(
    Tally, outages=COUNTS, interruptions=COUNTS, customer_us=st.integers(0, 10**18), momentary=COUNTS
).filter(lambda tally: tally.interruptions > 0 or tally.customer_us == 0)
SAIDI = st.floats(0.001, 10_000)


class TestIndices:
    def test_of_a_year_are_those_of_the_formulas(self) -> None:
        tally = Tally(outages=3, interruptions=1_800, customer_us=80_500 * MINUTE_US, momentary=250)
        found = indices(tally, customers_served=1_000, period_us=YEAR_US)
        assert (found.saifi, found.saidi_minutes, found.maifi) == (1.8, 80.5, 0.25)
        assert found.caidi_minutes == pytest.approx(44.7222, abs=1e-4)
        assert found.asai == pytest.approx(1 - 80.5 / 525_600, rel=1e-15)
        assert (found.outages, found.customer_interruptions, found.customer_minutes) == (3, 1_800, 80_500)

    def test_of_nothing_are_zero_and_all_available(self) -> None:
        found = indices(Tally(), customers_served=7, period_us=YEAR_US)
        assert (found.saifi, found.saidi_minutes, found.maifi, found.asai) == (0, 0, 0, 1)
        assert found.caidi_minutes is None

    def test_are_unknown_while_nobody_knows_how_many_are_served(self) -> None:
        found = indices(Tally(interruptions=4, customer_us=MINUTE_US), customers_served=0, period_us=YEAR_US)
        assert (found.saifi, found.saidi_minutes, found.maifi, found.asai) == (None, None, None, None)
        assert (found.customer_interruptions, found.customer_minutes, found.caidi_minutes) == (4, 1, 0.25)

    def test_have_no_availability_before_the_period_begins(self) -> None:
        assert indices(Tally(), customers_served=7, period_us=0).asai is None

    @given(tally=TALLIES, customers=st.integers(1, 10**7))
    def test_saidi_is_saifi_times_caidi(self, tally: Tally, customers: int) -> None:
        found = indices(tally, customers_served=customers, period_us=YEAR_US)
        assert found.saifi is not None
        assert found.saidi_minutes == pytest.approx(found.saifi * (found.caidi_minutes or 0), rel=1e-14)

    @given(one=TALLIES, other=TALLIES, customers=st.integers(1, 10**7))
    def test_of_two_periods_add_up(self, one: Tally, other: Tally, customers: int) -> None:
        first, second, both = (
            indices(tally, customers_served=customers, period_us=YEAR_US) for tally in (one, other, one + other)
        )
        assert both.customer_interruptions == first.customer_interruptions + second.customer_interruptions
        for name in ("saidi_minutes", "saifi", "maifi"):
            assert getattr(both, name) == pytest.approx(getattr(first, name) + getattr(second, name), rel=1e-14)


class TestTheThreshold:
    def test_of_a_small_series_is_the_one_computed_by_hand(self) -> None:
        # Logarithms 0, 1, 2: mean 1; squares of the distances 1 + 0 + 1, over n - 1 = 2, root: 1.
        found = threshold_of([1, math.e, math.e**2])
        assert found is not None
        assert found.alpha == pytest.approx(1)
        assert found.beta == pytest.approx(1)
        assert found.t_med_minutes == pytest.approx(33.1155, abs=1e-4)
        assert found.days == 3

    def test_leaves_days_of_zero_out(self) -> None:
        assert threshold_of([0, 1, 0, math.e, math.e**2, 0]) == threshold_of([1, math.e, math.e**2])

    def test_is_not_to_be_had_from_fewer_than_two_days(self) -> None:
        assert threshold_of([]) is None
        assert threshold_of([0, 12.5, 0]) is None

    @given(saidi=SAIDI, days=st.integers(2, 400))
    def test_is_not_exceeded_by_a_day_like_all_before(self, saidi: float, days: int) -> None:
        found = threshold_of([saidi] * days)
        assert found is not None
        assert not found.is_exceeded_by(saidi)
        assert found.is_exceeded_by(saidi * 1.001)

    @given(daily=st.lists(SAIDI, min_size=2, max_size=60), factor=st.integers(1, 10_000), tested=SAIDI)
    def test_picks_the_same_days_whatever_the_number_of_customers(
        self, daily: list[float], factor: int, tested: float
    ) -> None:
        found, scaled = threshold_of(daily), threshold_of([saidi * factor for saidi in daily])
        assert found is not None
        assert scaled is not None
        assert scaled.t_med_minutes == pytest.approx(found.t_med_minutes * factor, rel=1e-9)
        if abs(tested / found.t_med_minutes - 1) > 1e-6:
            assert scaled.is_exceeded_by(tested * factor) == found.is_exceeded_by(tested)

    def test_of_a_year_comes_from_the_five_full_years_before(self) -> None:
        before, inside = [date(2018, 12, 31)], [date(2019, 1, 1), date(2021, 6, 1), date(2023, 12, 31)]
        after = [date(2024, 1, 1)]
        saidi = dict.fromkeys(before + after, 500.0) | dict(zip(inside, [1, math.e, math.e**2], strict=True))
        assert threshold_for(2024, saidi) == threshold_of([1, math.e, math.e**2])
        assert threshold_for(2019, saidi) is None


class TestPeriods:
    @pytest.mark.parametrize(
        ("by", "begins"),
        [
            ("total", ["2023-11-15"]),
            ("year", ["2023-11-15", "2024-01-01", "2025-01-01"]),
            ("quarter", ["2023-11-15", *(f"2024-{m:02}-01" for m in (1, 4, 7, 10)), "2025-01-01"]),
            ("month", ["2023-11-15", "2023-12-01", *(f"2024-{m:02}-01" for m in range(1, 13)), "2025-01-01"]),
        ],
    )
    def test_begin_where_the_calendar_says(self, by: Grouping, begins: list[str]) -> None:
        cut = periods(date(2023, 11, 15), date(2025, 1, 20), by)
        assert [str(first) for first, _ in cut] == begins
        assert cut[-1][1] == date(2025, 1, 20)

    @given(
        first=st.dates(date(1990, 1, 1), date(2030, 1, 1)),
        days=st.integers(1, 1_000),
        by=st.sampled_from(["total", "year", "quarter", "month", "day"]),
    )
    def test_hold_every_day_once(self, first: date, days: int, by: Grouping) -> None:
        held = [
            begins + timedelta(days=n)
            for begins, ends in periods(first, first + timedelta(days=days), by)
            for n in range((ends - begins).days)
        ]
        assert held == [first + timedelta(days=n) for n in range(days)]
