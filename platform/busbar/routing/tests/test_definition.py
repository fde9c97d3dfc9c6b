"""How two versions of a route differ."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busbar.routing.definition import DIFFERENCES_MAX, RouteDefinition, as_stored, differences

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=10,
)


class TestDifferences:
    @pytest.mark.parametrize(
        ("before", "after", "found"),
        [
            ({"a": 1}, {"a": 1}, []),
            ({"a": 1}, {"a": 2}, [("a", "changed", 1, 2)]),
            ({}, {"a": None}, [("a", "added", None, None)]),
            ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, [("a.c", "removed", 2, None)]),
            ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, [("a[1].b", "changed", 2, 3)]),
            ({"a": [1]}, {"a": [1, 2]}, [("a[1]", "added", None, 2)]),
            ({"a": [1, 2]}, {"a": [1]}, [("a[1]", "removed", 2, None)]),
            ({"a": {}}, {"a": []}, [("a", "changed", {}, [])]),
            ({"a": 1}, {"a": True}, [("a", "changed", 1, True)]),
        ],
    )
    def test_name_each_place_once(self, before: Any, after: Any, found: list[Any]) -> None:
        assert [(each.field, each.kind, each.before, each.after) for each in differences(before, after)] == found

    @given(st.dictionaries(st.text("abc", max_size=2), JSON), st.dictionaries(st.text("abc", max_size=2), JSON))
    def test_are_none_exactly_when_both_are_the_same_json(self, before: Any, after: Any) -> None:
        same = json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True)
        assert (differences(before, after) == ()) == same

    def test_are_bounded(self) -> None:
        assert len(differences({}, {str(n): n for n in range(2 * DIFFERENCES_MAX)})) == DIFFERENCES_MAX

    def test_of_a_first_version_are_all_that_was_given(self) -> None:
        definition = RouteDefinition(name="N", pattern=("*",), endpoint_id="acme")
        assert {each.field for each in differences({}, as_stored(definition))} == set(as_stored(definition))
