"""Reading import jobs, limited to the sites that the actor works for."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from busbar.auth.actor import Context
from busbar.db import fetchrow
from busbar.errors import NotFound
from busbar.imports.report import ImportReport, RowError
from busbar.web.conditions import Where
from busbar.web.pagination import Page, SortColumn, fetch_page, page_request

ERRORS_SHOWN_MAX: Final = 100
"""So many are in the view of one import; the CSV file has all that are listed."""


class ImportView(msgspec.Struct, frozen=True, kw_only=True):
    """An import: how far it is, and what became of its rows."""

    import_id: UUID
    importer: str
    site: str
    file_name: str
    mode: str
    state: str
    """`running`, `done` or `failed`; one that is done may have rejected rows."""
    rows_read: int
    rows_accepted: int
    rows_rejected: int
    outcomes: dict[str, int] = {}
    """What became of the accepted rows: created, updated, unchanged, withheld."""
    errors_total: int = 0
    errors: tuple[RowError, ...] = ()
    """The first ones, where one import is read; empty in lists."""
    failure: str | None
    """Why it failed."""
    created_by: str
    correlation_id: str
    created_at: datetime
    finished_at: datetime | None


SORT_COLUMNS: Final = {
    "import_id": SortColumn(sql="import_id", type=UUID),
    "created_at": SortColumn(sql="created_at", type=datetime),
    "importer": SortColumn(sql="importer", type=str),
    "state": SortColumn(sql="state", type=str),
}
_COLUMNS: Final = (
    "import_id, importer, site_id as site, file_name, mode, state, rows_read, rows_accepted, rows_rejected, "
    "failure, created_by, correlation_id, created_at, finished_at"
)
_MINE: Final = "($1::text[] is null or site_id = any($1))"


async def list_imports(
    ctx: Context,
    *,
    importer: str | None,
    site_id: str | None,
    job_state: str | None,
    limit: int,
    cursor: str | None,
    sort: str | None,
) -> Page[ImportView]:
    """A page of imports, the latest first unless `sort` says otherwise."""
    asked = page_request(
        limit=limit, cursor=cursor, sort=sort, columns=SORT_COLUMNS, default="-created_at", key="import_id"
    )
    where = Where(_MINE, ctx.actor.site_filter)
    where.add("importer = {}", importer)
    where.add("site_id = {}", site_id)
    where.add("state = {}", job_state)
    columns = f"{_COLUMNS}, report - 'errors' as report"
    return await fetch_page(asked, where, columns=columns, source="core.import_job", to_item=_view)


async def get_import(ctx: Context, import_id: UUID) -> ImportView:
    """One import, with the first of its errors.

    Raises:
        NotFound: there is no such import at the actor's sites.
    """
    return _view(await _row(ctx, import_id))


async def get_errors_csv(ctx: Context, import_id: UUID) -> str:
    """The errors of an import as a CSV file; of one that has no report, its header only.

    Raises:
        NotFound: there is no such import at the actor's sites.
    """
    row = await _row(ctx, import_id)
    nothing = ImportReport(rows_read=0, rows_accepted=0, rows_rejected=0)
    return (nothing if row["report"] is None else msgspec.json.decode(row["report"], type=ImportReport)).to_csv()


async def _row(ctx: Context, import_id: UUID) -> Any:
    row = await fetchrow(
        f"select {_COLUMNS}, report from core.import_job where {_MINE} and import_id = $2",
        ctx.actor.site_filter,
        import_id,
    )
    if row is None:
        raise NotFound(f"There is no import {import_id}.")
    return row


def _view(row: Any) -> ImportView:
    values = dict(row)
    report = values.pop("report")
    if report is not None:
        decoded = msgspec.json.decode(report, type=ImportReport)
        values |= {
            "outcomes": decoded.outcomes,
            "errors_total": decoded.errors_total,
            "errors": decoded.errors[:ERRORS_SHOWN_MAX],
        }
    return ImportView(**values)
