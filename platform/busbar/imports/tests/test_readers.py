"""Files are read by what is in them, row by row; what cannot be read is refused with one sentence."""

import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busbar.imports.readers import Limits, Source, UnreadableFile, open_source


def csv_file(folder: Path, content: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def cells(source: Source) -> list[tuple[str, ...]]:
    return [row.cells for row in source.rows]


class TestCsv:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_finds_the_delimiter_even_when_cells_hold_the_others(self, tmp_path: Path, delimiter: str) -> None:
        rows = [("id", "name", "length"), ("1", "a", "1"), ("2", "b", "2")]
        text = "\n".join(delimiter.join(row) for row in rows) + f'\n3{delimiter}"x,y;z\tw"{delimiter}4\n'
        source = open_source(csv_file(tmp_path, text))
        assert source.delimiter == delimiter
        assert source.columns == ("id", "name", "length")
        assert cells(source)[-1] == ("3", "x,y;z\tw", "4")

    def test_is_not_misled_by_decimal_commas(self, tmp_path: Path) -> None:
        source = open_source(csv_file(tmp_path, "id;length\n1;1,5\n2;2,5\n"))
        assert source.delimiter == ";"
        assert cells(source) == [("1", "1,5"), ("2", "2,5")]

    def test_reads_one_column(self, tmp_path: Path) -> None:
        assert cells(open_source(csv_file(tmp_path, "id\na\nb\n"))) == [("a",), ("b",)]

    def test_takes_off_the_byte_order_mark(self, tmp_path: Path) -> None:
        source = open_source(csv_file(tmp_path, b"\xef\xbb\xbfid,name\n1,\xc3\xbc\n"))
        assert (source.encoding, source.columns, cells(source)) == ("utf-8", ("id", "name"), [("1", "ü")])

    def test_reads_windows_1252_when_it_is_not_utf_8(self, tmp_path: Path) -> None:
        source = open_source(csv_file(tmp_path, "id,name\n1,Köln 5 €\n".encode("cp1252")))
        assert (source.encoding, cells(source)) == ("cp1252", [("1", "Köln 5 €")])

    def test_reads_the_encoding_that_was_asked_for(self, tmp_path: Path) -> None:
        path = csv_file(tmp_path, "id,name\n1,Łódź\n".encode("iso-8859-2"))
        assert cells(open_source(path, encoding="iso-8859-2")) == [("1", "Łódź")]

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            ("id,name\n".encode("utf-16"), "is in UTF-16; save it as UTF-8"),
            (b"id,name\n1,\x81\n", "is neither UTF-8 nor Windows-1252"),
            (b"id,name\n1,\x00\n", "holds NUL bytes"),
            (b"", "is empty"),
            (b"\n\n , \n", "is empty"),
            (b"id,id\n1,2\n", "names 'id' more than once"),
            (b'"id,name\n1,2\n', "The header in line 1 cannot be read"),
        ],
    )
    def test_refuses_what_is_no_table(self, tmp_path: Path, content: bytes, sentence: str) -> None:
        with pytest.raises(UnreadableFile, match=sentence):
            open_source(csv_file(tmp_path, content))

    def test_refuses_an_encoding_or_delimiter_that_it_does_not_read(self, tmp_path: Path) -> None:
        path = csv_file(tmp_path, "id,name\n1,ü\n")
        with pytest.raises(UnreadableFile, match="'idna' is not read"):
            open_source(path, encoding="idna")
        with pytest.raises(UnreadableFile, match="is not read; choose comma"):
            open_source(path, delimiter="|")
        latin = csv_file(tmp_path, "id,name\n1,ü\n".encode("cp1252"))
        with pytest.raises(UnreadableFile, match="The file is not utf-8"):
            open_source(latin, encoding="utf-8")

    def test_names_the_line_where_a_row_begins(self, tmp_path: Path) -> None:
        source = open_source(csv_file(tmp_path, 'id,name\n1,"two\nlines"\n\n2,b\n'))
        assert [(row.line, row.cells[0]) for row in source.rows] == [(2, "1"), (5, "2")]

    def test_a_row_with_too_many_or_too_few_cells_is_a_problem_and_costs_no_other(self, tmp_path: Path) -> None:
        source = open_source(csv_file(tmp_path, "id,name\n1\n2,b\n3,c,d\n4,e,,\n"))
        assert [(row.line, row.problem) for row in source.rows] == [
            (2, "has 1 cells, the header has 2"),
            (3, ""),
            (4, "has 3 cells, the header has 2"),
            (5, ""),
        ]

    def test_a_misplaced_quotation_mark_costs_one_row(self, tmp_path: Path) -> None:
        source = open_source(csv_file(tmp_path, 'id,name\n1,"a"b\n2,c\n'))
        rows = list(source.rows)
        assert "misplaced quotation mark" in rows[0].problem
        assert (rows[1].line, rows[1].cells, rows[1].problem) == (3, ("2", "c"), "")

    def test_passes_over_a_title(self, tmp_path: Path) -> None:
        source = open_source(csv_file(tmp_path, "Price list 2024\n\nid,name\n1,a\n"), rows_before_header=1)
        assert (source.columns, cells(source)) == (("id", "name"), [("1", "a")])

    @given(
        rows=st.lists(
            st.tuples(*[st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1)] * 3),
            max_size=8,
        )
    )
    def test_gives_back_every_cell_that_a_csv_writer_wrote(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
    ) -> None:
        import csv

        path = tmp_path_factory.mktemp("csv") / "table.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("a", "b", "c"), *rows])
        assert cells(open_source(path, delimiter=",")) == rows


class TestLimits:
    def test_refuses_a_file_with_too_many_bytes(self, tmp_path: Path) -> None:
        with pytest.raises(UnreadableFile, match="has 8 bytes; at most 5"):
            open_source(csv_file(tmp_path, "id\n1\n2\n\n"), limits=Limits(file_bytes_max=5))

    def test_stops_after_so_many_rows(self, tmp_path: Path) -> None:
        source = open_source(csv_file(tmp_path, "id\n1\n2\n3\n"), limits=Limits(rows_max=2))
        assert next(source.rows).cells == ("1",)
        assert next(source.rows).cells == ("2",)
        with pytest.raises(UnreadableFile, match="more than 2 rows"):
            next(source.rows)

    def test_refuses_too_many_columns(self, tmp_path: Path) -> None:
        with pytest.raises(UnreadableFile, match="more than 2 cells"):
            open_source(csv_file(tmp_path, "a,b,c\n"), limits=Limits(columns_max=2))

    def test_a_quotation_mark_left_open_does_not_read_the_rest_into_one_cell(self, tmp_path: Path) -> None:
        text = 'id,name\n1,"open\n' + "2,b\n" * 1_000
        source = open_source(csv_file(tmp_path, text), limits=Limits(cell_bytes_max=500))
        with pytest.raises(UnreadableFile, match="begins in line 2 has more than 500 characters; is a quotation mark"):
            list(source.rows)


def text_cell(reference: str, text: str) -> str:
    return f'<c r="{reference}" t="inlineStr"><is><t>{text}</t></is></c>'


def workbook(folder: Path, rows: str) -> Path:
    """Write an XLSX file with one sheet; `rows` are its row elements."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    links = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="rId1" Type="{links}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{links}"><sheets>'
        '<sheet name="Assets" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="rId1" Type="{links}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>',
    }
    path = folder / "table.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, '<?xml version="1.0"?>' + content)
    return path


class TestWorkbooks:
    def test_reads_cells_as_text_with_their_spreadsheet_rows(self, tmp_path: Path) -> None:
        rows = (
            f'<row r="3">{text_cell("B3", "id")}{text_cell("C3", "length")}{text_cell("D3", "on")}</row>'
            f'<row r="5">{text_cell("B5", " L1 ")}<c r="C5"><v>5.5</v></c><c r="D5" t="b"><v>1</v></c></row>'
            f'<row r="6">{text_cell("B6", "L2")}<c r="C6"><v>5803</v></c><c r="D6" t="b"><v>0</v></c></row>'
        )
        source = open_source(workbook(tmp_path, rows))
        assert (source.format, source.columns) == ("xlsx", ("id", "length", "on"))
        assert [(row.line, row.cells) for row in source.rows] == [
            (5, ("L1", "5.5", "true")),
            (6, ("L2", "5803", "false")),
        ]

    def test_is_recognized_by_its_content_not_its_name(self, tmp_path: Path) -> None:
        path = workbook(tmp_path, f'<row r="1">{text_cell("A1", "id")}</row>').rename(tmp_path / "table.csv")
        assert open_source(path).format == "xlsx"

    def test_refuses_a_sheet_that_is_not_there_and_names_those_that_are(self, tmp_path: Path) -> None:
        with pytest.raises(UnreadableFile, match="no sheet 'Prices'; it has 'Assets'"):
            open_source(workbook(tmp_path, ""), sheet="Prices")

    def test_refuses_an_empty_sheet_and_a_damaged_file(self, tmp_path: Path) -> None:
        path = workbook(tmp_path, "")
        with pytest.raises(UnreadableFile, match="is empty"):
            open_source(path)
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(UnreadableFile, match="The workbook cannot be read"):
            open_source(path)

    def test_survives_a_tiny_file_that_makes_the_parser_abort(self, tmp_path: Path) -> None:
        """The parser would ask for 500 GB for these two cells, and take its process with it."""
        rows = f'<row r="1">{text_cell("A1", "id")}</row><row r="1048576">{text_cell("XFD1048576", "far away")}</row>'
        with pytest.raises(UnreadableFile, match="too large when unpacked"):
            open_source(workbook(tmp_path, rows))

    def test_refuses_too_many_columns_rows_and_characters(self, tmp_path: Path) -> None:
        rows = "".join(
            f'<row r="{number}">{text_cell(f"A{number}", "x" * 9)}{text_cell(f"B{number}", "y")}</row>'
            for number in (1, 2, 3)
        )
        path = workbook(tmp_path, rows)
        with pytest.raises(UnreadableFile, match="has 2 columns; at most 1"):
            open_source(path, limits=Limits(columns_max=1))
        with pytest.raises(UnreadableFile, match="has 3 rows; at most 1"):
            open_source(path, limits=Limits(rows_max=1))
        with pytest.raises(UnreadableFile, match="Row 1 has a cell with more than 8 characters"):
            open_source(path, limits=Limits(cell_bytes_max=8))
