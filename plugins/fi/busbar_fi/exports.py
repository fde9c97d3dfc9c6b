"""Reports as CSV and XLSX: no cell is taken for a formula, and every amount is written from its decimal digits."""

import asyncio
import csv
import io
import tempfile
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import xlsxwriter

from busbar_fi.reports import CostReport, CostRow

COLUMNS: Final = CostRow.__struct_fields__
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula, or skips before one."""
_ROWS_AT_ONCE: Final = 500
_CHUNK_BYTES: Final = 64 * 1024
_EXACT_DIGITS_MAX: Final = 15
"""A spreadsheet keeps so many digits of a number; an amount with more is written as text, or it would change."""


async def as_csv(report: CostReport) -> AsyncIterator[bytes]:
    """The rows with a line of names, in UTF-8, some hundred at a time."""
    yield _lines([COLUMNS])
    for begin in range(0, len(report.rows), _ROWS_AT_ONCE):
        yield _lines([_cells(row) for row in report.rows[begin : begin + _ROWS_AT_ONCE]])


async def as_xlsx(report: CostReport) -> AsyncIterator[bytes]:
    """A workbook with one sheet; written to a file that is gone afterwards, and sent in pieces."""
    with tempfile.TemporaryDirectory(prefix="busbar-export-") as folder:
        path = Path(folder, "costs.xlsx")
        await asyncio.to_thread(_write_workbook, path, report)
        with await asyncio.to_thread(path.open, "rb") as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                yield chunk


def inert(text: str) -> str:
    """A text that no spreadsheet takes for a formula: one that could be begins with an apostrophe."""
    return "'" + text if text.startswith(_FORMULA) else text


def _cells(row: CostRow) -> list[str]:
    return [_cell(getattr(row, name)) for name in COLUMNS]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    # A negative amount begins with a minus and is a number for all that.
    return inert(value) if isinstance(value, str) else f"{value:f}" if isinstance(value, Decimal) else str(value)


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _write_workbook(path: Path, report: CostReport) -> None:
    # Row by row to disk, so that memory stays the same however many there are.
    with xlsxwriter.Workbook(str(path), {"constant_memory": True, "tmpdir": str(path.parent)}) as workbook:
        sheet = workbook.add_worksheet("Costs")
        money = workbook.add_format({"num_format": "#,##0.00"})
        for column, name in enumerate(COLUMNS):
            sheet.write_string(0, column, name)
        for line, row in enumerate(report.rows, start=1):
            for column, name in enumerate(COLUMNS):
                value = getattr(row, name)
                if isinstance(value, Decimal) and len(value.as_tuple().digits) <= _EXACT_DIGITS_MAX:
                    sheet.write_number(line, column, value, money)
                elif isinstance(value, int):
                    sheet.write_number(line, column, value)
                elif value is not None:
                    sheet.write_string(line, column, str(value))
