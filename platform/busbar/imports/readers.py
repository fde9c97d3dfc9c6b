"""Reads the rows of a CSV, XLSX or XLS file one after the other, within limits, whatever the file pretends to be."""

import codecs
import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from busbar.errors import BadFormat
from busbar.imports.workbooks import WorkbookLimits, read_workbook

Format = Literal["csv", "xlsx", "xls"]


class UnreadableFile(BadFormat):
    """The file is not a table that can be read; the sentence says why, and nothing was imported."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How large a file may be; beyond, it is refused as a whole."""

    file_bytes_max: int = 200_000_000
    rows_max: int = 1_000_000
    columns_max: int = 200
    cell_bytes_max: int = 32_768
    """Of a CSV cell the characters are counted, which are at most its bytes."""


class SourceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row as text. Cells are trimmed; a blank one is empty."""

    line: int
    """The line or spreadsheet row where the row begins, from 1."""
    cells: tuple[str, ...]
    """As many as there are columns, unless there is a problem."""
    problem: str = ""
    """Why the row cannot be read; empty for a good row."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """An open file: its header now, its rows on demand."""

    format: Format
    encoding: str
    """`utf-8`, `cp1252` or the one that was asked for; of a workbook always `utf-8`."""
    delimiter: str
    """Of a CSV file; empty for a workbook."""
    columns: tuple[str, ...]
    rows: Iterator[SourceRow]
    """To be read once; raises UnreadableFile when a limit is passed. Closing it releases the file."""


ENCODINGS: Final = ("utf-8", "cp1252", "iso-8859-1", "iso-8859-2", "iso-8859-15", "cp850", "cp437")
DELIMITERS: Final = (",", ";", "\t")
_SAMPLE_CHARACTERS: Final = 65_536
_SAMPLE_ROWS: Final = 200
_CHUNK_BYTES: Final = 1 << 20
_ZIP: Final = b"PK\x03\x04"
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_BYTE_ORDER_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def open_source(
    path: Path,
    *,
    limits: Limits | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
    rows_before_header: int = 0,
) -> Source:
    """Open a file by what is in it, not by its name, and read its header.

    Of a CSV file, `encoding` and `delimiter` are found out unless given: UTF-8 with or without byte order mark, else
    Windows-1252; the one of `, ; tab` that cuts most lines into as many cells as the header has. Of a workbook the
    `sheet` of that name is read, else the first. `rows_before_header` rows (a title) are passed over; rows without any
    content are, too, and count nowhere.

    Raises:
        UnreadableFile: the file is empty, too large, of another kind, or its header is not usable.
    """
    limits = limits or Limits()
    size = path.stat().st_size
    if size > limits.file_bytes_max:
        raise UnreadableFile(f"The file has {size:,} bytes; at most {limits.file_bytes_max:,} are read.")
    format_ = format_of(path)
    if format_ == "csv":
        _check_choices(encoding, delimiter)
        encoding = encoding or _encoding_of(path)
        delimiter = delimiter or _delimiter_of(path, encoding)
        raw = _csv_rows(path, encoding=encoding, delimiter=delimiter, limits=limits)
    else:
        encoding, delimiter = "utf-8", ""
        raw = _workbook_rows(path, sheet=sheet, limits=limits)
    raw = (row for row in raw if row.problem or any(row.cells))
    for _ in range(rows_before_header):
        next(raw, None)
    columns = _header(next(raw, None), limits)
    return Source(
        format=format_, encoding=encoding, delimiter=delimiter, columns=columns, rows=_fit(raw, columns, limits)
    )


def format_of(path: Path) -> Format:
    """Tell by the first bytes what a file is; what is no workbook is taken for CSV."""
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(_ZIP):
        return "xlsx"
    return "xls" if head == _OLE else "csv"


def _header(row: SourceRow | None, limits: Limits) -> tuple[str, ...]:
    if row is None:
        raise UnreadableFile("The file has no header: it is empty.")
    if row.problem:
        raise UnreadableFile(f"The header in line {row.line} cannot be read: it {row.problem}.")
    cells = list(row.cells)
    while cells and not cells[-1]:
        cells.pop()
    if len(cells) > limits.columns_max:
        raise UnreadableFile(f"The header has {len(cells)} columns; at most {limits.columns_max} are read.")
    columns = tuple(cell or f"column {number}" for number, cell in enumerate(cells, start=1))
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated:
        raise UnreadableFile(f"The header names {', '.join(map(repr, repeated))} more than once.")
    return columns


def _fit(rows: Iterator[SourceRow], columns: tuple[str, ...], limits: Limits) -> Iterator[SourceRow]:
    """Give every row as many cells as there are columns; a row that has others is a problem, blank ones aside."""
    width = len(columns)
    for count, row in enumerate(rows, start=1):
        if count > limits.rows_max:
            raise UnreadableFile(f"The file has more than {limits.rows_max:,} rows; split it.")
        cells = row.cells
        if row.problem or len(cells) == width:
            yield row
        elif len(cells) > width and not any(cells[width:]):
            yield SourceRow(line=row.line, cells=cells[:width])
        else:
            yield SourceRow(line=row.line, cells=cells, problem=f"has {len(cells)} cells, the header has {width}")


def _check_choices(encoding: str | None, delimiter: str | None) -> None:
    if encoding is not None and encoding.lower() not in ENCODINGS:
        raise UnreadableFile(f"The encoding {encoding[:40]!r} is not read; choose one of {', '.join(ENCODINGS)}.")
    if delimiter is not None and delimiter not in DELIMITERS:
        raise UnreadableFile(f"The delimiter {delimiter[:5]!r} is not read; choose comma, semicolon or tab.")


def _encoding_of(path: Path) -> str:
    """Return the encoding in which the whole file can be read, or refuse."""
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(_BYTE_ORDER_MARKS):
        raise UnreadableFile("The file is in UTF-16; save it as UTF-8.")
    for encoding in ("utf-8", "cp1252"):
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    if b"\x00" in chunk:
                        raise UnreadableFile("The file holds NUL bytes; it is not a CSV file in UTF-8 or Windows-1252.")
                    decoder.decode(chunk)
                decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return encoding
    raise UnreadableFile("The file is neither UTF-8 nor Windows-1252; save it as UTF-8.")


def _delimiter_of(path: Path, encoding: str) -> str:
    try:
        with path.open(encoding=_without_mark(encoding), newline="") as file:
            sample = file.read(_SAMPLE_CHARACTERS)
            is_whole = not file.read(1)
    except UnicodeDecodeError:
        raise UnreadableFile(f"The file is not {encoding}.") from None
    lines = sample.splitlines(keepends=True)
    if not is_whole and len(lines) > 1:
        lines.pop()

    def agreement(delimiter: str) -> tuple[float, int]:
        """How many of the sampled rows are as wide as the first, and how wide that is."""
        widths: list[int] = []
        reader = csv.reader(lines, delimiter=delimiter)
        try:
            for row in reader:
                if any(row):
                    widths.append(len(row))
                if len(widths) == _SAMPLE_ROWS:
                    break
        except csv.Error:
            # A cell beyond the limit; reading tells the user, guessing goes by what was seen up to here.
            pass
        if not widths or widths[0] == 1:
            return 0.0, 1
        return widths.count(widths[0]) / len(widths), widths[0]

    return max(DELIMITERS, key=agreement)


def _csv_rows(path: Path, *, encoding: str, delimiter: str, limits: Limits) -> Iterator[SourceRow]:
    # The limit is a setting of the whole process; whoever reads another file sets it anew, to the same by default.
    csv.field_size_limit(limits.cell_bytes_max)
    with path.open(encoding=_without_mark(encoding), newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                cells = tuple(cell.strip() for cell in next(reader))
            except StopIteration:
                return
            except UnicodeDecodeError:
                raise UnreadableFile(f"From line {line} on the file is not {encoding}.") from None
            except csv.Error as error:
                if "field larger" in str(error):
                    raise UnreadableFile(
                        f"A cell that begins in line {line} has more than {limits.cell_bytes_max:,} characters; "
                        "is a quotation mark left open?"
                    ) from None
                # The reader starts afresh with the next line, so one bad row costs no other.
                yield SourceRow(line=line, cells=(), problem=f"has a misplaced quotation mark ({error})")
                continue
            if len(cells) > limits.columns_max:
                yield SourceRow(line=line, cells=(), problem=f"has more than {limits.columns_max} cells")
            else:
                yield SourceRow(line=line, cells=cells)


def _workbook_rows(path: Path, *, sheet: str | None, limits: Limits) -> Iterator[SourceRow]:
    workbook_limits = WorkbookLimits(
        rows_max=limits.rows_max, columns_max=limits.columns_max, cell_bytes_max=limits.cell_bytes_max
    )
    for item in read_workbook(path, sheet=sheet, limits=workbook_limits):
        if isinstance(item, str):
            raise UnreadableFile(item)
        line, cells = item
        yield SourceRow(line=line, cells=cells)


def _without_mark(encoding: str) -> str:
    return "utf-8-sig" if encoding.lower() == "utf-8" else encoding
