"""Every bad field of a body is named at once, by its path."""

import enum
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from busbar.errors import BadFormat, InvalidPayload, MissingField
from busbar.web.text import MULTI_LINE, PATTERN_MESSAGES, SINGLE_LINE, Money, Name, SignedQuantity, Slug
from busbar.web.validation import ERRORS_MAX, collect_errors, decode_body


class Point(msgspec.Struct, forbid_unknown_fields=True):
    lat: Annotated[float, msgspec.Meta(ge=-90, le=90)]
    lon: float


class Kind(enum.StrEnum):
    LINE = "line"


class Call(msgspec.Struct, tag="call"):
    number: str


class Mail(msgspec.Struct, tag="mail"):
    address: str
    copies: int = 1


class Outage(msgspec.Struct, forbid_unknown_fields=True):
    title: Name
    kind: Kind
    where: Point | None = None
    steps: Annotated[list[Point], msgspec.Meta(max_length=3)] = []
    by_name: dict[str, Point] = {}
    told: Call | Mail | None = None
    cost: Money | None = None
    note: str | msgspec.UnsetType = msgspec.UNSET
    alias: int = msgspec.field(name="displayName", default=0)
    parts: tuple["Outage", ...] = ()

    def __post_init__(self) -> None:
        if self.title == "forbidden":
            raise ValueError("This title is not allowed")


T = TypeVar("T")


class Batch(msgspec.Struct, Generic[T]):
    rows: tuple[T, ...]


GOOD: dict[str, Any] = {"title": "Line 7", "kind": "line"}


def fields_refused(**changes: Any) -> dict[str, str]:
    return {each.field: each.message for each in collect_errors({**GOOD, **changes}, Outage)}


class TestBadFields:
    @pytest.mark.parametrize(
        ("changes", "fields"),
        [
            ({}, set()),
            ({"title": 5, "kind": "x", "zzz": 1}, {"title", "kind", "zzz"}),
            ({"where": {"lat": 91}}, {"where.lat", "where.lon"}),
            ({"where": 5}, {"where"}),
            ({"where": None}, set()),
            ({"steps": [{"lat": 1, "lon": 1}, {"lat": "1", "x": 1}]}, {"steps[1].lat", "steps[1].lon", "steps[1].x"}),
            ({"steps": [{"lat": 1, "lon": 1}] * 4}, {"steps"}),
            ({"steps": {}}, {"steps"}),
            ({"by_name": {"a": {"lat": 1, "lon": "x"}}}, {"by_name.a.lon"}),
            ({"told": {"type": "mail", "copies": "x"}}, {"told.address", "told.copies"}),
            ({"told": {"type": "fax"}}, {"told"}),
            ({"cost": "1.234"}, {"cost"}),
            ({"displayName": "x"}, {"displayName"}),
            ({"alias": 1}, {"alias"}),
            (
                {"parts": [{"title": "a", "kind": "line", "parts": [{"title": ""}]}]},
                {"parts[0].parts[0].title", "parts[0].parts[0].kind"},
            ),
            ({"title": "forbidden"}, {"body"}),
        ],
    )
    def test_are_all_named_by_their_path(self, changes: dict[str, Any], fields: set[str]) -> None:
        assert set(fields_refused(**changes)) == fields

    def test_say_what_is_wrong_without_showing_patterns(self) -> None:
        assert fields_refused(title="a\nb")["title"] == PATTERN_MESSAGES[Name.__metadata__[0].pattern] + "."
        assert fields_refused(kind=5) == {"kind": "Expected `str`, got `int`."}

    def test_are_named_up_to_a_bound(self) -> None:
        assert len(collect_errors([{}] * 1_000, list[Point])) == ERRORS_MAX

    def test_give_the_code_for_missing_fields_only_when_nothing_else_is_wrong(self) -> None:
        with pytest.raises(MissingField) as missing:
            decode_body(b"{}", Outage)
        assert [each.field for each in missing.value.errors] == ["title", "kind"]
        with pytest.raises(InvalidPayload) as invalid:
            decode_body(b'{"title": 5}', Outage)
        assert invalid.value.code == "VAL_001"

    def test_that_are_no_json_at_all_have_a_code_of_their_own(self) -> None:
        with pytest.raises(BadFormat):
            decode_body(b"{", Outage)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["title", "kind", "where", "steps", "lat", "lon", "told", "x"]), inner
                )
            ),
            max_leaves=15,
        )
    )
    def test_are_found_exactly_when_msgspec_refuses(self, value: Any) -> None:
        try:
            msgspec.convert(value, Outage)
            accepted = True
        except (msgspec.ValidationError, RecursionError):
            accepted = False
        assert (collect_errors(value, Outage) == []) is accepted


class TestGoodBodies:
    def test_become_the_struct(self) -> None:
        body = b'{"title": "Line 7", "kind": "line", "cost": 12.30, "parts": [{"title": "a", "kind": "line"}]}'
        outage = decode_body(body, Outage)
        assert (outage.cost, outage.parts[0].title) == (Decimal("12.30"), "a")

    def test_may_write_an_integer_with_a_decimal_point_as_json_schema_allows(self) -> None:
        assert decode_body(b'{"title": "a", "kind": "line", "displayName": 5.0}', Outage).alias == 5
        with pytest.raises(InvalidPayload):
            decode_body(b'{"title": "a", "kind": "line", "displayName": 5.5}', Outage)

    def test_are_read_strictly(self) -> None:
        with pytest.raises(InvalidPayload):
            decode_body(b'{"title": "a", "kind": "line", "displayName": "5"}', Outage)


class TestDecimals:
    @pytest.mark.parametrize(
        "text", ["NaN", "sNaN", "Infinity", "-Infinity", "1e1000000000", "1e-1000000000", "1" * 31]
    )
    def test_that_are_not_ordinary_numbers_are_refused_wherever_they_stand(self, text: str) -> None:
        for type_ in (Decimal, list[Decimal], dict[str, Decimal], Decimal | None):
            value = {list[Decimal]: [text], dict[str, Decimal]: {"a": text}}.get(type_, text)
            with pytest.raises(InvalidPayload):
                decode_body(msgspec.json.encode(value), type_)

    @pytest.mark.parametrize("text", ["0", "0.01", "9999999999999.99", "1e3", "007"])
    def test_within_their_bounds_pass(self, text: str) -> None:
        assert decode_body(msgspec.json.encode(text), Money) == Decimal(text)

    @pytest.mark.parametrize("text", ["-0.01", "0.001", "10000000000000", "1e14", "1e-3"])
    def test_beyond_them_do_not(self, text: str) -> None:
        with pytest.raises(InvalidPayload):
            decode_body(msgspec.json.encode(text), Money)

    @given(st.decimals(-999_999_999_999, 999_999_999_999, places=3))
    def test_of_three_places_pass_as_quantities(self, value: Decimal) -> None:
        text = format(value, "f")
        if text.startswith("-0.000") or text == "-0":
            return
        assert decode_body(msgspec.json.encode(text), SignedQuantity) == value

    @pytest.mark.parametrize("type_", [Batch[Money], list[Batch[Money]], Batch[Batch[Money]]])
    def test_are_found_inside_generic_structs(self, type_: Any) -> None:
        value: Any = {"rows": ["-1"]}
        if type_ == list[Batch[Money]]:
            value = [value]
        elif type_ == Batch[Batch[Money]]:
            value = {"rows": [value]}
        with pytest.raises(InvalidPayload):
            decode_body(msgspec.json.encode(value), type_)
        good = msgspec.json.encode(value).replace(b"-1", b"1.5")
        decode_body(good, type_)


class TestTexts:
    @given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=120))
    def test_of_one_line_hold_no_control_character(self, text: str) -> None:
        has_control = any(ord(char) < 32 or ord(char) == 127 for char in text)
        accepted = collect_errors(text, Annotated[str, msgspec.Meta(pattern=SINGLE_LINE)]) == []
        assert accepted is not has_control

    @given(st.text(st.characters(exclude_categories=("Cs",))))
    def test_of_many_lines_hold_none_but_tab_and_line_breaks(self, text: str) -> None:
        has_control = any((ord(char) < 32 and char not in "\t\n\r") or ord(char) == 127 for char in text)
        accepted = collect_errors(text, Annotated[str, msgspec.Meta(pattern=MULTI_LINE)]) == []
        assert accepted is not has_control

    @pytest.mark.parametrize(
        ("slug", "good"), [("depot-1", True), ("Depot", False), ("depot\n", False), ("1st", False), ("", False)]
    )
    def test_that_are_slugs_fit_an_address(self, slug: str, good: bool) -> None:
        assert (collect_errors(slug, Slug) == []) is good
