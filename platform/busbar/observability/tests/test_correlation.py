"""Correlation ids and W3C trace context."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busbar.observability.correlation import (
    accepted_correlation_id,
    accepted_traceparent,
    correlated,
    correlation_id,
    new_correlation_id,
    new_traceparent,
    traceparent,
)

VALID = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class TestCorrelationIdOfACaller:
    @pytest.mark.parametrize("sent", ["a", "x" * 128, "TKT-PM-20261123-0001", "urn:a/b@c+d=e~f", new_correlation_id()])
    def test_is_taken_over_when_it_is_harmless(self, sent: str) -> None:
        assert accepted_correlation_id(sent.encode()) == sent

    @pytest.mark.parametrize("sent", [b"", b"x" * 129, b"a b", b"a\nb", b'a"b', b"<script>", b"\xe4", b"a\x00", b"a\n"])
    def test_is_replaced_otherwise(self, sent: bytes) -> None:
        assert accepted_correlation_id(sent) is None

    @given(st.binary(max_size=200))
    def test_is_never_anything_that_a_header_cannot_hold(self, sent: bytes) -> None:
        accepted = accepted_correlation_id(sent)
        assert accepted is None or (accepted.isascii() and accepted.isprintable() and " " not in accepted)

    def test_holds_inside_the_block_only(self) -> None:
        with correlated("outer", traceparent=VALID):
            with correlated("inner"):
                assert (correlation_id(), traceparent()) == ("inner", None)
            assert (correlation_id(), traceparent()) == ("outer", VALID)
        assert correlation_id() is None


class TestTraceparent:
    def test_a_valid_one_is_passed_on(self) -> None:
        assert accepted_traceparent(VALID.encode()) == VALID

    def test_a_later_version_is_read_by_its_first_four_fields(self) -> None:
        assert accepted_traceparent(VALID.replace("00-4", "cc-4").encode() + b"-more") == VALID

    @pytest.mark.parametrize(
        "sent",
        [
            "",
            VALID.upper(),
            VALID + "-more",
            VALID + "\n",
            "ff" + VALID[2:],
            f"00-{'0' * 32}-00f067aa0ba902b7-01",
            f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
            VALID[:-1],
        ],
    )
    def test_an_invalid_one_is_not(self, sent: str) -> None:
        assert accepted_traceparent(sent.encode()) is None

    def test_a_new_one_is_valid(self) -> None:
        fresh = new_traceparent()
        assert accepted_traceparent(fresh.encode()) == fresh
