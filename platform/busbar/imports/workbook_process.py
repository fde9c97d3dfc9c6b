"""The child process of `busbar.imports.workbooks`: request on standard input, one JSON line for each row on output."""

import sys
from datetime import date, datetime, time, timedelta
from io import BytesIO
from pathlib import Path

import msgspec
from python_calamine import CalamineError, CalamineWorkbook


class WorkbookLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a workbook is read, and what reading it may cost."""

    rows_max: int
    columns_max: int
    cell_bytes_max: int
    memory_bytes_max: int = 2_000_000_000
    """Of address space, where the system can bound it."""
    cpu_s_max: int = 120


class WorkbookRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to read."""

    path: str
    sheet: str | None
    limits: WorkbookLimits


def main() -> None:
    """Write the rows of the sheet; a line with a text instead of a list says why there are no more."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=WorkbookRequest)
    _bound(request.limits)
    out = sys.stdout.buffer
    refusal = _write_rows(request)
    if refusal:
        out.write(msgspec.json.encode(refusal) + b"\n")
    out.flush()


def _bound(limits: WorkbookLimits) -> None:
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes_max, limits.memory_bytes_max))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s_max, limits.cpu_s_max))
    # An abort of the parser is expected here, and worth no core file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _write_rows(request: WorkbookRequest) -> str | None:
    limits = request.limits
    try:
        # Given the path, calamine would go by the extension.
        workbook = CalamineWorkbook.from_filelike(BytesIO(Path(request.path).read_bytes()))
        names = workbook.sheet_names
        if not names:
            return "The workbook has no sheet."
        if request.sheet is not None and request.sheet not in names:
            return f"The workbook has no sheet {request.sheet[:80]!r}; it has {', '.join(map(repr, names[:20]))}."
        sheet = workbook.get_sheet_by_name(request.sheet if request.sheet is not None else names[0])
    except CalamineError as error:
        return f"The workbook cannot be read: {str(error)[:200]}."
    if sheet.end is None:
        return None
    # From cell A1 on, as the line numbers are.
    rows, columns = sheet.end[0] + 1, sheet.end[1] + 1
    if columns > limits.columns_max:
        return f"The sheet has {columns:,} columns; at most {limits.columns_max:,} are read."
    # One more than the rows: the header.
    if rows > limits.rows_max + 1:
        return f"The sheet has {rows:,} rows; at most {limits.rows_max:,} are read."
    encoder = msgspec.json.Encoder()
    out = sys.stdout.buffer
    for number, cells in enumerate(sheet.iter_rows(), start=1):
        texts = [cell_text(cell) for cell in cells]
        if any(len(text) > limits.cell_bytes_max for text in texts):
            return f"Row {number:,} has a cell with more than {limits.cell_bytes_max:,} characters."
        out.write(encoder.encode(texts) + b"\n")
    return None


def cell_text(value: str | float | bool | date | datetime | time | timedelta) -> str:
    """Write a cell as text that the conversions read back without loss."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, (date, time)):
        return value.isoformat()
    return str(value)


if __name__ == "__main__":
    main()
