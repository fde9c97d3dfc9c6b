"""Rows become structs by declared rules, and a bad row has all of its bad fields named."""

import enum
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from busbar.errors import InvalidPayload
from busbar.imports.mapping import Mapping, RowConverter, convert_rows, suggest_mapping
from busbar.imports.readers import open_source
from busbar.imports.report import CellError, ReportBuilder
from busbar.web.text import Identifier, Latitude, Name, PositiveMoney


class Status(enum.Enum):
    IN_SERVICE = "in_service"
    SPARE = "spare"


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    asset_id: Identifier
    name: Name
    kind: Literal["line", "switch"] = "line"
    status: Status = Status.IN_SERVICE
    latitude: Latitude | None = None
    customers: Annotated[int, Meta(ge=0)] = 0
    rating_mva: float | None = None
    cost: PositiveMoney | None = None
    installed: date | None = None
    checked_at: Annotated[datetime, Meta(tz=True)] | None = None
    open: bool = False


class Period(msgspec.Struct, frozen=True, kw_only=True):
    start: date
    end: date | None
    note: str = "none"

    def __post_init__(self) -> None:
        if self.end is not None and self.end < self.start:
            raise ValueError("The end is before the start.")


def mapping(**fields: dict[str, Any]) -> Mapping:
    return msgspec.convert({"fields": fields}, Mapping)


def convert_one(row_type: type[Any], fields: dict[str, dict[str, Any]], row: dict[str, str]) -> Any:
    return RowConverter(row_type, mapping(**fields), tuple(row)).convert(tuple(row.values()))


def clause(fields: dict[str, dict[str, Any]], row: dict[str, str], field: str) -> str:
    """The message for one bad field of an asset whose other fields are good."""
    base = {"asset_id": {"constant": "A1"}, "name": {"constant": "Line 1"}}
    outcome = convert_one(Asset, base | fields, row)
    assert isinstance(outcome, list), outcome
    (error,) = outcome
    assert error.field == field
    return error.message


class TestSuggestion:
    def test_maps_columns_by_name_without_regard_to_case_and_marks(self) -> None:
        suggested = suggest_mapping(Asset, ("Asset ID", "NAME", "Rating-MVA", "Colour"))
        assert {name: rule.column for name, rule in suggested.fields.items()} == {
            "asset_id": "Asset ID",
            "name": "NAME",
            "rating_mva": "Rating-MVA",
        }

    def test_names_the_needed_fields_that_no_column_fits(self) -> None:
        with pytest.raises(InvalidPayload, match="The columns are 'Nr', 'name'") as caught:
            suggest_mapping(Asset, ("Nr", "name"))
        assert [error.field for error in caught.value.errors] == ["asset_id"]


class TestMappingCheck:
    def test_names_every_rule_that_does_not_fit(self) -> None:
        rules = mapping(
            colour={"constant": "red"},
            name={"column": "Label"},
            latitude={},
            customers={"column": "n", "transform": {"kind": "number", "decimal": ",", "thousands": ","}},
            installed={"column": "n", "transform": {"kind": "date", "patterns": ["%A"]}},
            checked_at={"column": "n", "transform": {"kind": "date", "patterns": ["%d.%m.%Y"], "zone": "Mars/Base"}},
            open={"column": "n", "transform": {"kind": "true_false", "true": ["x"], "false": ["X"]}},
        )
        with pytest.raises(InvalidPayload) as caught:
            RowConverter(Asset, rules, ("n",))
        messages = {error.field: error.message for error in caught.value.errors}
        assert set(messages) == {
            f"fields.{name}"
            for name in ("colour", "asset_id", "name", "latitude", "customers", "installed", "checked_at", "open")
        }
        assert messages["fields.asset_id"] == "This field is needed and has no rule."
        assert messages["fields.name"] == "There is no column 'Label'; there are 'n'."
        assert "Mars/Base" in messages["fields.checked_at"]

    @pytest.mark.parametrize(
        "transform", [{"kind": "python", "code": "1"}, {"kind": "case"}, {"kind": "case", "to": "x"}]
    )
    def test_refuses_a_transform_that_is_not_declared(self, transform: dict[str, str]) -> None:
        with pytest.raises(msgspec.ValidationError):
            mapping(name={"column": "n", "transform": transform})


class TestConversion:
    def test_makes_every_type_of_its_usual_text(self) -> None:
        row = {
            "asset_id": "LIN-1",
            "name": "Line 1",
            "kind": "switch",
            "status": "spare",
            "latitude": "53.6",
            "customers": "1204",
            "rating_mva": "0.4",
            "cost": "1250.50",
            "installed": "1998-05-31",
            "checked_at": "2024-01-31T23:59:00+01:00",
            "open": "true",
        }
        assert convert_one(Asset, {name: {"column": name} for name in row}, row) == Asset(
            asset_id="LIN-1",
            name="Line 1",
            kind="switch",
            status=Status.SPARE,
            latitude=53.6,
            customers=1204,
            rating_mva=0.4,
            cost=Decimal("1250.50"),
            installed=date(1998, 5, 31),
            checked_at=datetime(2024, 1, 31, 22, 59, tzinfo=UTC),
            open=True,
        )

    def test_names_every_bad_field_of_a_row_with_its_value(self) -> None:
        row = {"asset_id": "no spaces!", "name": "", "customers": "-1", "latitude": "north", "installed": "31.12.1998"}
        errors = convert_one(Asset, {name: {"column": name} for name in row}, row)
        assert {(error.field, error.value, error.message) for error in errors} == {
            ("asset_id", "no spaces!", "must be letters, digits and . _ : -, starting with a letter or digit"),
            ("name", "", "is missing"),
            ("customers", "-1", "must be at least 0"),
            ("latitude", "north", "is not a number such as 12.5"),
            ("installed", "31.12.1998", "is not a date such as 2024-01-31"),
        }

    @pytest.mark.parametrize(
        ("field", "text", "message"),
        [
            ("customers", "12.5", "is not a whole number"),
            ("customers", "1e999999999", "is out of range"),
            ("customers", "null", "is not a whole number"),
            ("rating_mva", "nan", "is not a finite number"),
            ("rating_mva", "inf", "is not a finite number"),
            ("rating_mva", "null", "is not a value of this field"),
            ("latitude", "91", "must be at most 90.0"),
            ("cost", "NaN", "is not a finite number"),
            ("cost", "1.005", "must be an amount above 0 with at most 13 digits and 2 decimals, such as 1250.50"),
            ("kind", "pump", "is none of line, switch"),
            ("status", "lost", "is none of in_service, spare"),
            ("checked_at", "2024-01-31T23:59:00", "has no offset from UTC, such as the Z in 2024-01-31T23:59:00Z"),
            ("checked_at", "noon", "is not a time such as 2024-01-31T23:59:00Z"),
            ("open", "perhaps", "is not true or false"),
            ("name", "a\x07b", "holds a control character"),
            ("name", "x" * 121, "must have at most 120 characters"),
        ],
    )
    def test_refuses_in_plain_words(self, field: str, text: str, message: str) -> None:
        assert clause({field: {"column": "c"}}, {"c": text}, field) == message

    def test_a_blank_cell_takes_the_constant_else_the_default(self) -> None:
        fields = {
            "asset_id": {"column": "id", "constant": "A0"},
            "name": {"column": "name"},
            "customers": {"column": "n"},
            "open": {"constant": True},
        }
        asset = convert_one(Asset, fields, {"id": "", "name": "Line", "n": ""})
        assert (asset.asset_id, asset.customers, asset.open) == ("A0", 0, True)

    def test_an_optional_field_without_default_is_none_when_blank_or_not_mapped(self) -> None:
        assert convert_one(Period, {"start": {"column": "s"}}, {"s": "2024-01-01"}).end is None
        both = {"start": {"column": "s"}, "end": {"column": "e"}}
        assert convert_one(Period, both, {"s": "2024-01-01", "e": ""}).end is None

    def test_a_rule_between_fields_rejects_the_row(self) -> None:
        both = {"start": {"column": "s"}, "end": {"column": "e"}}
        errors = convert_one(Period, both, {"s": "2024-01-02", "e": "2024-01-01"})
        assert errors == [CellError(field="", message="The end is before the start.")]

    def test_the_text_null_stays_a_text(self) -> None:
        fields = {"start": {"constant": "2024-01-01"}, "note": {"column": "n"}}
        assert convert_one(Period, fields, {"n": "null"}).note == "null"


class TestTransforms:
    @pytest.mark.parametrize(
        ("transform", "text", "value"),
        [
            ({"decimal": ","}, "0,4", 0.4),
            ({"decimal": ",", "thousands": "."}, "1.234.567,5", 1234567.5),
            ({"decimal": ".", "thousands": " "}, "1\u00a0234.5", 1234.5),
            ({"decimal": ",", "factor": "0.001"}, "-1500", -1.5),
        ],
    )
    def test_reads_numbers_as_countries_write_them(self, transform: dict[str, str], text: str, value: float) -> None:
        fields = {
            "asset_id": {"constant": "A1"},
            "name": {"constant": "Line 1"},
            "rating_mva": {"column": "c", "transform": {"kind": "number"} | transform},
        }
        assert convert_one(Asset, fields, {"c": text}).rating_mva == value

    @pytest.mark.parametrize("text", ["1.5", "1,2,3", "12.34,5", "a", ",5", "1e3"])
    def test_refuses_a_number_that_could_be_another(self, text: str) -> None:
        rule = {"column": "c", "transform": {"kind": "number", "decimal": ",", "thousands": "."}}
        assert clause({"rating_mva": rule}, {"c": text}, "rating_mva") == "is not a number such as 1234,5"

    def test_makes_a_whole_number_and_a_decimal_of_a_number(self) -> None:
        number = {"kind": "number", "decimal": ",", "thousands": "."}
        fields = {
            "asset_id": {"constant": "A1"},
            "name": {"constant": "Line 1"},
            "customers": {"column": "n", "transform": number},
            "cost": {"column": "c", "transform": number},
        }
        asset = convert_one(Asset, fields, {"n": "1.204", "c": "1.250,50"})
        assert (asset.customers, asset.cost) == (1204, Decimal("1250.50"))

    def test_reads_dates_in_the_first_pattern_that_fits(self) -> None:
        rule = {"column": "c", "transform": {"kind": "date", "patterns": ["%d.%m.%Y", "%d/%m/%y"]}}
        fields = {"start": rule}
        assert convert_one(Period, fields, {"c": "31.12.1998"}).start == date(1998, 12, 31)
        assert convert_one(Period, fields, {"c": "31/12/98"}).start == date(1998, 12, 31)
        (error,) = convert_one(Period, fields, {"c": "12/31/98"})
        assert error.message == "is not written as %d.%m.%Y or %d/%m/%y"

    def test_takes_local_time_in_the_named_zone(self) -> None:
        rule = {
            "column": "c",
            "transform": {"kind": "date", "patterns": ["%d.%m.%Y %H:%M"], "zone": "Europe/Berlin"},
        }
        fields = {"asset_id": {"constant": "A1"}, "name": {"constant": "L"}, "checked_at": rule}
        asset = convert_one(Asset, fields, {"c": "01.07.2024 12:00"})
        assert asset.checked_at == datetime(2024, 7, 1, 10, 0, tzinfo=UTC)
        message = clause({"checked_at": rule}, {"c": "31.03.2024 02:30"}, "checked_at")
        assert message == "does not exist in Europe/Berlin: the clock was put forward"

    def test_reads_words_for_yes_and_no(self) -> None:
        rule = {"column": "c", "transform": {"kind": "true_false"}}
        fields = {"asset_id": {"constant": "A1"}, "name": {"constant": "L"}, "open": rule}
        assert convert_one(Asset, fields, {"c": "Ja"}).open is True
        assert convert_one(Asset, fields, {"c": "NO"}).open is False
        assert clause({"open": rule}, {"c": "perhaps"}, "open").startswith("is none of true, yes")

    def test_maps_values_and_refuses_or_keeps_the_others(self) -> None:
        table = {"kind": "values", "values": {"Leitung": "line", "Schalter": "switch"}}
        rule = {"column": "c", "transform": table}
        fields = {"asset_id": {"constant": "A1"}, "name": {"constant": "L"}, "kind": rule}
        assert convert_one(Asset, fields, {"c": "Schalter"}).kind == "switch"
        assert clause({"kind": rule}, {"c": "line"}, "kind") == "is none of Leitung, Schalter"
        keeping = {"column": "c", "transform": table | {"otherwise": "keep"}}
        assert convert_one(Asset, fields | {"kind": keeping}, {"c": "line"}).kind == "line"

    def test_changes_case(self) -> None:
        rule = {"column": "c", "transform": {"kind": "case", "to": "lower"}}
        fields = {"asset_id": {"constant": "A1"}, "name": {"constant": "L"}, "kind": rule}
        assert convert_one(Asset, fields, {"c": "LINE"}).kind == "line"


class TestConvertRows:
    def test_gives_good_rows_in_batches_and_enters_all_in_the_report(self, tmp_path: Path) -> None:
        path = tmp_path / "assets.csv"
        path.write_text("asset_id,name\nA1,one\nA2\nA3,three\nbad id,\nA5,five\nA1,again\n")
        source = open_source(path)
        converter = RowConverter(Asset, suggest_mapping(Asset, source.columns), source.columns)
        builder = ReportBuilder()
        batches = list(convert_rows(source, converter, builder, batch_rows=2, key="asset_id"))
        assert [[(row.line, row.value.asset_id) for row in batch] for batch in batches] == [
            [(2, "A1"), (4, "A3")],
            [(6, "A5")],
        ]
        report = builder.report()
        assert (report.rows_read, report.rows_accepted, report.rows_rejected) == (6, 3, 3)
        assert [(error.line, error.field, error.message) for error in report.errors] == [
            (3, "", "has 1 cells, the header has 2"),
            (5, "asset_id", "must be letters, digits and . _ : -, starting with a letter or digit"),
            (5, "name", "is missing"),
            (7, "asset_id", "is in line 2 already"),
        ]
