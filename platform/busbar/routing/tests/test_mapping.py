import copy
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busbar.routing import mapping
from busbar.routing.expressions import Scope
from busbar.routing.mapping import DocumentMapping, MappingError
from busbar.routing.tests.sample import EVENT


def mapped(template: Any, event: dict[str, Any] = EVENT) -> Any:
    return DocumentMapping(template).apply(Scope(event))


def complaints(template: Any, event: dict[str, Any] = EVENT) -> dict[str, str]:
    with pytest.raises(MappingError) as refused:
        mapped(template, event)
    assert (refused.value.code, refused.value.status) == ("VAL_001", 400)
    return {error.field: error.message for error in refused.value.errors}


def event_with(**data: Any) -> dict[str, Any]:
    return {**EVENT, "data": data}


class TestValues:
    def test_fills_in_expressions_and_keeps_the_rest(self) -> None:
        template = {
            "short_description": "=truncate(data.title, 15)",
            "urgency": "=data.severity == 'P1' ? 1 : 2",
            "category": "Network",
            "active": True,
            "cost": None,
            "asset": {"id": "=data.asset.asset_id", "coordinates": ["=data.asset.lat", "=data.asset.lon", 0]},
            "opened_at": "=event.time",
            "tags": "=data.tags",
        }
        assert mapped(template) == {
            "short_description": "Übergabestation",
            "urgency": 1,
            "category": "Network",
            "active": True,
            "cost": None,
            "asset": {"id": "north-T-104", "coordinates": [53.5461, 9.9661, 0]},
            "opened_at": "2026-11-23T08:15:30Z",
            "tags": ["oil", "cooling", "harbour"],
        }

    def test_two_signs_write_a_text_that_starts_with_one(self) -> None:
        assert mapped({"formula": "==SUM(A1)", "rule": "===", "plain": "a=b"}) == {
            "formula": "=SUM(A1)",
            "rule": "==",
            "plain": "a=b",
        }

    @pytest.mark.parametrize(("template", "value"), [("=data.severity", "P1"), (3, 3), ([], []), ({}, {}), ("", "")])
    def test_the_whole_mapping_may_be_one_value(self, template: Any, value: Any) -> None:
        assert mapped(template) == value

    def test_gives_a_document_of_its_own_every_time(self) -> None:
        compiled = DocumentMapping({"fixed": ["a"], "taken": "=data.tags"})
        first = compiled.apply(Scope(EVENT))
        first["fixed"].append("b")
        first["taken"].append("c")
        assert compiled.apply(Scope(EVENT)) == {"fixed": ["a"], "taken": ["oil", "cooling", "harbour"]}

    def test_leaves_the_template_alone(self) -> None:
        template = {"a": ["=data.severity"], "b": {"=for": "data.tags", "=each": "=item"}}
        before = copy.deepcopy(template)
        mapped(template)
        assert template == before


class TestBlocks:
    def test_fill_in_their_body_for_every_entry(self) -> None:
        template = {"=for": "data.steps", "=each": {"line": "=index + 1", "customers": "=item.customers", "unit": "EA"}}
        assert mapped({"lines": template})["lines"] == [
            {"line": 1, "customers": 1240, "unit": "EA"},
            {"line": 2, "customers": 310, "unit": "EA"},
        ]

    def test_may_read_the_event_beside_the_entry(self) -> None:
        assert mapped({"=for": "data.tags", "=each": "=data.severity + ' ' + item"}) == [
            "P1 oil",
            "P1 cooling",
            "P1 harbour",
        ]

    def test_leave_out_entries_for_which_if_is_false(self) -> None:
        template = {"=for": "data.steps", "=if": "item.customers > 1000", "=each": "=item.at"}
        assert mapped(template) == ["2026-11-23T08:15:00Z"]

    def test_give_an_empty_list_for_an_empty_list(self) -> None:
        assert mapped({"=for": "data.steps", "=each": "=item.nope"}, event_with(steps=[])) == []

    def test_take_the_sign_before_for_and_if_or_not(self) -> None:
        assert mapped({"=for": "=data.tags", "=if": "=index == 0", "=each": "=item"}) == ["oil"]

    @pytest.mark.parametrize(
        ("template", "field", "sentence"),
        [
            ({"=for": "data.tags"}, "mapping", "members `=for` and `=each`"),
            ({"=each": "=item"}, "mapping", "members `=for` and `=each`"),
            ({"=for": "data.tags", "=each": "=item", "more": 1}, "mapping", "no others"),
            ({"=for": ["a"], "=each": "=item"}, "=for", "Write an expression"),
            ({"=for": "data.severity", "=each": "=item"}, "=for", "must give a list"),
            ({"=for": "data.asset", "=each": "=item"}, "=for", "must give a list"),
            ({"=for": "data.nope", "=each": "=item"}, "=for", "no `nope`"),
            ({"=for": "data.tags", "=if": "item", "=each": "=item"}, "[0].=if", "must be true or false"),
            ({"a": {"=for": "data.tags", "=each": {"=for": "data.tags", "=each": 1}}}, "a.=each", "another block"),
            ({"a": "=item"}, "a", "there is no `item`"),
        ],
    )
    def test_say_what_is_wrong_with_them(self, template: Any, field: str, sentence: str) -> None:
        assert sentence in complaints(template)[field]


class TestComplaints:
    def test_every_bad_expression_is_named_at_once(self) -> None:
        template = {
            "a": "=data.severity ==",
            "good": "=data.severity",
            "b": [{"c": "=nope"}, "=data.tags.map(t, t)"],
            "d": {"=for": "data.tags", "=each": {"e": "=item +"}},
            "=f": 1,
        }
        found = complaints(template)
        assert list(found) == ["a", "b[0].c", "b[1]", "d.=each.e", "=f"]
        assert "there is no `nope`" in found["b[0].c"]
        assert "Only values are expressions" in found["=f"]

    def test_every_expression_that_fails_on_the_event_is_named_at_once(self) -> None:
        template = {"a": "=data.nope", "b": {"c": "=1 / 0"}, "d": {"=for": "data.steps", "=each": "=item.nope"}}
        assert list(complaints(template)) == ["a", "b.c", "d[0]", "d[1]"]

    def test_a_summary_names_the_first(self) -> None:
        with pytest.raises(MappingError, match=r"cannot be filled in from this event: a: At character 6: .*and 1 more"):
            mapped({"a": "=data.nope", "b": "=data.nada"})

    def test_a_missing_field_is_never_an_empty_value(self) -> None:
        assert list(complaints({"a": "=data.nope"})) == ["a"]
        assert mapped({"a": "=has(data.nope) ? data.nope : null"}) == {"a": None}

    def test_stops_after_twenty(self) -> None:
        template = {"=for": "data.v", "=each": "=item.nope"}
        with pytest.raises(MappingError) as refused:
            mapped(template, event_with(v=[{}] * 500))
        assert len(refused.value.errors) == mapping.ERRORS_MAX + 1


class TestLimits:
    @pytest.mark.parametrize(
        ("template", "sentence"),
        [
            ({"a": "x" * 40_000}, "bytes"),
            ({str(index): "=true" for index in range(201)}, "201 expressions; at most 200"),
            ({"a": object()}, "not a JSON document"),
            ({"a": "\ud800"}, "not a JSON document"),
        ],
    )
    def test_bound_the_template(self, template: Any, sentence: str) -> None:
        with pytest.raises(MappingError, match=sentence):
            DocumentMapping(template)

    @pytest.mark.parametrize("levels", [18, 400, 100_000])
    def test_bound_its_depth(self, levels: int) -> None:
        template: Any = "=true"
        for _ in range(levels):
            template = [template]
        with pytest.raises(MappingError, match=r"deep|not a JSON document"):
            DocumentMapping(template)

    def test_bound_the_entries_of_a_block(self) -> None:
        found = complaints({"a": {"=for": "data.v", "=each": "=index"}}, event_with(v=[0] * 1_001))
        assert "1001 entries; at most 1000" in found["mapping"]

    def test_bound_the_document(self) -> None:
        found = complaints({"=for": "data.v", "=each": "=data.s"}, event_with(v=[0] * 900, s="a" * 1_000))
        assert "more than 262144 bytes" in found["mapping"]

    def test_bound_the_fixed_part_too(self) -> None:
        found = complaints({"=for": "data.v", "=each": "a" * 1_000}, event_with(v=[0] * 900))
        assert "more than 262144 bytes" in found["mapping"]

    def test_bound_the_processor_time(self) -> None:
        slow = "=data.rows.exists(r, size(r.s) < 0 || r.s.upperAscii() == '' || r.s.trim() == '')"
        rows = [{"s": "a" * 100} for _ in range(300)]
        start_s = time.thread_time()
        found = complaints({"=for": "data.v", "=each": slow}, event_with(v=[0] * 1_000, rows=rows))
        assert "takes more than 0.25 s" in found["mapping"]
        assert time.thread_time() - start_s < 2.0

    def test_count_entries_that_the_mapping_made_larger_than_the_event(self) -> None:
        body = "=item.exists(i, " + " || ".join(["i == -1"] * 12) + ")"
        block = {"=for": "[data.v" + " + data.v" * 9 + "]", "=each": body}
        assert "too large for the expression" in complaints(block, event_with(v=[0] * 1_500))["[0]"]
        assert mapped(block, event_with(v=[0] * 10)) == [False]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(max_size=20).map(lambda text: "=" + text)
    | st.sampled_from(["=data.tags", "=item", "=data.severity", "==x", "=event", "=1/0", "text"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", "=for", "=each", "=if", "=x", "", "."]), inner, max_size=4)
    ),
    max_leaves=20,
)


class TestAnyTemplate:
    @settings(max_examples=300, deadline=None)
    @given(JSON)
    def test_gives_a_json_document_or_says_what_is_wrong(self, template: Any) -> None:
        try:
            document = mapped(template)
        except MappingError as error:
            assert error.errors
            assert all(fault.field and fault.message for fault in error.errors)
            return
        assert msgspec.json.decode(msgspec.json.encode(document)) == document
