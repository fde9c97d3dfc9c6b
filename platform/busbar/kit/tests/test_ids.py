"""UUIDs of version 7: laid out as RFC 9562 says, in the order of time to the millisecond, never twice."""

import time
import uuid

from hypothesis import given
from hypothesis import strategies as st
from pytest import MonkeyPatch

from busbar.kit import ids
from busbar.kit.ids import uuid7

MILLISECONDS = st.integers(0, 2**48 - 1)


def at(milliseconds: int) -> uuid.UUID:
    """One that is made at this moment."""
    with MonkeyPatch.context() as patch:
        patch.setattr(ids.time, "time_ns", lambda: milliseconds * 1_000_000 + 999_999)
        return uuid7()


class TestUuid7:
    @given(MILLISECONDS)
    def test_holds_the_milliseconds_version_and_variant(self, milliseconds: int) -> None:
        made = at(milliseconds)
        assert made.int >> 80 == milliseconds
        assert (made.version, made.variant) == (7, uuid.RFC_4122)

    @given(MILLISECONDS, MILLISECONDS)
    def test_sorts_by_time_as_number_and_as_text(self, one: int, two: int) -> None:
        if one != two:
            assert (at(one) < at(two)) == (str(at(one)) < str(at(two))) == (one < two)

    def test_is_of_now(self) -> None:
        before_ms = time.time_ns() // 1_000_000
        made_ms = uuid7().int >> 80
        assert before_ms <= made_ms <= time.time_ns() // 1_000_000

    def test_never_comes_twice_even_within_a_millisecond(self) -> None:
        assert len({at(1_800_000_000_000) for _ in range(10_000)}) == 10_000

    def test_has_no_random_bit_that_stands_still(self) -> None:
        made = [at(0).int for _ in range(200)]
        fixed = 0xFFFF_FFFF_FFFF_F000_C000_0000_0000_0000
        ones, zeros = 0, 0
        for each in made:
            ones, zeros = ones | each, zeros | ~each
        assert (ones & zeros) & ~fixed & (2**128 - 1) == ~fixed & (2**128 - 1)
