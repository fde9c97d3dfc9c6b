"""What an importer declares, and what it is handed."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

import msgspec

from busbar.auth.actor import Context
from busbar.imports.mapping import Mapping
from busbar.imports.report import ImportReport
from busbar.kit.ids import uuid7

Mode = Literal["all_or_nothing", "partial"]
ALL_OR_NOTHING: Final = "all_or_nothing"
"""A bad row means that no row is written."""
PARTIAL: Final = "partial"
"""The good rows are written, the bad ones reported."""


class ImportRun(msgspec.Struct, frozen=True, kw_only=True):
    """One import, as the importer sees it."""

    ctx: Context
    import_id: UUID = msgspec.field(default_factory=uuid7)
    path: Path
    """The file, or the folder where `Importer.folder` says so."""
    site_id: str
    mode: Mode = ALL_OR_NOTHING
    """`all_or_nothing` writes no row if one is bad; `partial` writes the good ones."""
    mapping: Mapping | None = None
    """Which column becomes which field of `Importer.target`; None to go by the names of the columns."""
    progress: Callable[[int], None] = lambda rows: None
    """To be called with the number of rows that were read since the last call; cheap, and from any thread."""


class Importer(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of file that can be loaded in bulk.

    `name` is `<module>.<words>`; `permission` is needed to run it, at a site where the module is enabled. `run` returns
    a report in which every row that was read is accepted or rejected; it raises a BusbarError where the file as a whole
    cannot be loaded, and then has written nothing.
    """

    name: str
    title: str
    permission: str
    run: Callable[[ImportRun], Awaitable[ImportReport]]
    folder: bool = False
    """Whether it reads a folder of files; over HTTP that is sent as a ZIP archive."""
    target: type[msgspec.Struct] | None = None
    """The fields that a mapping can fill; None where the columns of the file are fixed."""
