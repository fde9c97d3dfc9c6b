"""Backoff within its bounds, and a clock that shows aware UTC."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busbar.kit.backoff import delay_s
from busbar.kit.clock import utc_now

POSITIVE = st.floats(0.001, 3_600)


class _Always(random.Random):
    """Throws always the same."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def random(self) -> float:
        return self._value


class TestBackoff:
    @given(st.integers(1, 10**6), POSITIVE, POSITIVE, st.randoms())
    def test_is_between_half_and_the_whole_of_the_capped_exponential(
        self, attempt: int, first_s: float, max_s: float, rng: random.Random
    ) -> None:
        whole_s = min(max_s, first_s * 2.0 ** min(attempt - 1, 40))
        assert whole_s / 2 <= delay_s(attempt, first_s=first_s, max_s=max_s, rng=rng) <= whole_s <= max_s

    @pytest.mark.parametrize(
        ("attempt", "longest_s"), [(1, 0.5), (2, 1), (3, 2), (4, 4), (10, 256), (11, 300), (1_000_000, 300)]
    )
    def test_doubles_up_to_the_cap(self, attempt: int, longest_s: float) -> None:
        assert delay_s(attempt, first_s=0.5, max_s=300, rng=_Always(0.0)) == longest_s / 2
        assert delay_s(attempt, first_s=0.5, max_s=300, rng=_Always(1.0)) == longest_s

    def test_is_spread_so_that_not_all_come_back_at_once(self) -> None:
        waits = [delay_s(5, first_s=1, max_s=300) for _ in range(200)]
        assert max(waits) - min(waits) > 4
        assert len(set(waits)) > 150


class TestClock:
    def test_shows_aware_utc(self) -> None:
        now = utc_now()
        assert now.tzinfo is UTC
        assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)
