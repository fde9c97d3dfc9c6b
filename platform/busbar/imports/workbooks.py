"""Reads a workbook in a process of its own, because a workbook can kill its reader.

A file of one kilobyte with a cell at XFD1048576 makes the parser ask for 500 GB and abort; others unpack to any size.
The child has a bounded memory and time, and only it dies.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from busbar.imports.workbook_process import WorkbookLimits, WorkbookRequest

__all__ = ["WorkbookLimits", "read_workbook"]

_MODULE: Final = "busbar.imports.workbook_process"
_KILLED: Final = (
    "The workbook cannot be read: it is damaged, or too large when unpacked. "
    "Save it as CSV, or clear the empty rows and columns around the table."
)
_Line = list[str] | str


def read_workbook(
    path: Path, *, sheet: str | None, limits: WorkbookLimits
) -> Iterator[tuple[int, tuple[str, ...]] | str]:
    """Yield row number (from 1) and cells of one sheet; or, as the last item, a sentence that says why it ended early.

    Numbers come as text with a decimal point and no more digits than the file has, dates and times as ISO 8601, truth
    values as `true` and `false`. A spreadsheet error (`#N/A`) comes as a blank: the parser does not tell them apart.
    """
    request = WorkbookRequest(path=str(path), sheet=sheet, limits=limits)
    decoder = msgspec.json.Decoder(_Line)
    # -I would hide an editable install; the module path and the interpreter are our own, the file name is data.
    child = subprocess.Popen(
        [sys.executable, "-m", _MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdin and child.stdout
    try:
        child.stdin.write(msgspec.json.encode(request))
        child.stdin.close()
        for number, line in enumerate(child.stdout, start=1):
            item = decoder.decode(line)
            if isinstance(item, str):
                yield item
                return
            yield number, tuple(item)
        if child.wait() != 0:
            yield _KILLED
    finally:
        child.stdout.close()
        child.kill()
        child.wait()
