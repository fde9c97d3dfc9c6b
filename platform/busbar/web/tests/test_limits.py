"""The scan of a JSON body before it is decoded: nesting, encoding, control characters, and its own cost."""

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busbar.errors import BadFormat
from busbar.web.limits import Limits, check_headers, check_json, check_target

DEPTH_MAX = 4

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=("Cs",)), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "[[", '"{', "\\"]), inner),
    max_leaves=12,
)


def depth_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


def holds_control(value: Any) -> bool:
    if isinstance(value, str):
        return any((ord(char) < 32 and char not in "\t\n\r") or ord(char) == 127 for char in value)
    if isinstance(value, dict):
        return any(holds_control(key) or holds_control(item) for key, item in value.items())
    return isinstance(value, list) and any(map(holds_control, value))


class TestScanOfJson:
    @given(any_json)
    def test_refuses_exactly_what_is_too_deep_or_holds_controls(self, value: Any) -> None:
        body = json.dumps(value).encode()
        try:
            check_json(body, depth_max=DEPTH_MAX)
            passed = True
        except BadFormat:
            passed = False
        # json.dumps leaves DEL as it is, and as it is a text type of ours finds it.
        control = holds_control(json.loads(body.replace(b"\x7f", b"")))
        assert passed is (depth_of(value) <= DEPTH_MAX and not control)

    @pytest.mark.parametrize("depth", range(1, 8))
    @pytest.mark.parametrize("pair", ["[]", "{}", "[{", '"['])
    def test_counts_levels_of_both_kinds_and_not_those_inside_texts(self, pair: str, depth: int) -> None:
        value: Any = "[[[[[[[["
        for level in range(depth):
            value = [value] if pair == "[]" or (pair == "[{" and level % 2) else {"[{": value}
        body = json.dumps([value, value]).encode()
        if depth + 1 <= DEPTH_MAX:
            check_json(body, depth_max=DEPTH_MAX)
        else:
            with pytest.raises(BadFormat, match="nested"):
                check_json(body, depth_max=DEPTH_MAX)

    @pytest.mark.parametrize(
        "body",
        [b'"\\u0000"', b'"\\u0007"', b'"\\b"', b'"\\f"', b'"\\u007f"', b'"\\u001F"', b'"\\\\\\u0000"', b'"\x00"'],
    )
    def test_refuses_control_characters_however_written(self, body: bytes) -> None:
        with pytest.raises(BadFormat):
            check_json(body, depth_max=DEPTH_MAX)

    @pytest.mark.parametrize(
        "body", [b'"\\n\\t\\r"', b'"\\\\u0000"', b'"\\\\b"', b'"\\u00e4\\u0100"', b'"\\\\\\\\u0000"']
    )
    def test_lets_line_breaks_and_mere_look_alikes_pass(self, body: bytes) -> None:
        check_json(body, depth_max=DEPTH_MAX)

    @pytest.mark.parametrize(
        "body",
        [
            b"[" * 1_000_000,
            b'"' * 1_000_000,
            b'"' + b'\\"' * 500_000,
            b"\\" * 1_000_000,
            b"[]" * 500_000,
            b"[{" * 500_000,
            b"[" * 32 + b"]" * 32 + b"[]" * 400_000,
            b'{"a":"\\u0041"},' * 60_000,
        ],
    )
    def test_takes_time_in_proportion_to_the_size(self, body: bytes) -> None:
        started_s = time.process_time()
        with contextlib.suppress(BadFormat):
            check_json(body, depth_max=32)
        # Measured: at most 35 ms for a megabyte; anything quadratic would take minutes.
        assert time.process_time() - started_s < 1.0


class TestTargetAndHeaders:
    LIMITS = Limits(target_bytes_max=100)

    @pytest.mark.parametrize(("path", "query"), [(b"/a%00", b""), (b"/a", b"x=%00"), (b"/" + b"x" * 99, b"y=1")])
    def test_with_a_nul_or_too_long_are_refused(self, path: bytes, query: bytes) -> None:
        with pytest.raises(BadFormat):
            check_target(path, query, self.LIMITS)

    def test_of_ordinary_kind_pass(self) -> None:
        check_target(b"/a%20b", b"x=%0A", self.LIMITS)
        check_headers([(b"accept", b"*/*")])
