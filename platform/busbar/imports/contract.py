"""What an importer declares, and what it is handed."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from busbar.auth.actor import Context
from busbar.imports.report import ImportReport

ALL_OR_NOTHING = "all_or_nothing"
PARTIAL = "partial"


class ImportRun(msgspec.Struct, frozen=True, kw_only=True):
    """One import, as the importer sees it."""

    ctx: Context
    path: Path
    """The file, or the folder where `Importer.folder` says so."""
    site_id: str
    mode: str = ALL_OR_NOTHING
    """`all_or_nothing` writes no row if one is bad; `partial` writes the good ones."""
    mapping: dict[str, Any] | None = None
    """Which column becomes which field; None for the importer's own."""
    progress: Callable[[int], None] = lambda rows: None
    """To be called with the number of rows that were read since the last call."""


class Importer(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of file that can be loaded in bulk.

    `name` is `<module>.<words>`; `permission` is needed to run it; `run` returns a report in which every row that was
    read is accepted or rejected.
    """

    name: str
    title: str
    permission: str
    run: Callable[[ImportRun], Awaitable[ImportReport]]
    folder: bool = False
