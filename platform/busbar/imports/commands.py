"""Running imports: each is a job with progress and a report, in the background or for somebody who waits.

The job's row is beaten like a heart while it runs. When the process dies, the importer's transaction dies with it, and
`fail_abandoned` marks the job as failed once its heart has been still for a while.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec
import structlog

from busbar.audit import record
from busbar.auth.actor import Context
from busbar.db import DATABASE_TROUBLE, end_tasks, execute, fetch, fetchval, on_commit, spawn, transaction
from busbar.errors import BusbarError, FieldError, InvalidPayload, NotFound, Unavailable
from busbar.imports.contract import ALL_OR_NOTHING, PARTIAL, Importer, ImportRun
from busbar.imports.report import ImportReport
from busbar.kit.clock import Clock
from busbar.sites.directory import DIRECTORY
from busbar.sites.scope import module_scope

log = structlog.get_logger()

CORE: Final = "core"
"""The first word of importers that belong to no module: they run at any site."""
RUNNING_MAX: Final = 4
"""So many imports run at once, over all processes; each holds a connection of the background pool."""
PROGRESS_S: Final = 0.5
"""So often at most the job's row is brought up to date."""
HEARTBEAT_S: Final = 10.0
ABANDONED_AFTER_S: Final = 60.0
_ABANDONED: Final = (
    "The process that ran the import has ended; what it had not finished was not written. Start it again."
)


_OPEN = """
insert into core.import_job (import_id, importer, site_id, file_name, mode, state, created_by, correlation_id,
    created_at, heartbeat_at)
values ($1, $2, $3, $4, $5, 'running', $6, $7, $8, $8)
"""
_FINISH = """
update core.import_job set state = $2, rows_read = $3, rows_accepted = $4, rows_rejected = $5, report = $6::jsonb,
    failure = $7, finished_at = $8, heartbeat_at = $8
where import_id = $1
"""


async def run_import(ctx: Context, importer: Importer, run: ImportRun, *, file_name: str | None = None) -> ImportReport:
    """Run an import to its end and return its report; others can follow it as a job.

    Raises:
        Forbidden: the actor lacks the importer's permission.
        NotFound: the site is not the actor's, or the importer's module is not enabled there.
        InvalidPayload: the mode is unknown, or a mapping is given to an importer whose columns are fixed.
        BusbarError: whatever the importer refuses the file as a whole for; the job has failed.
    """
    run = msgspec.structs.replace(run, ctx=ctx)
    await _open(importer, run, file_name or run.path.name)
    return await _work(importer, run)


async def start_import(
    ctx: Context, importer: Importer, run: ImportRun, *, file_name: str, done: Callable[[], None]
) -> None:
    """Start an import in the background; `run.import_id` is its job. `done` is called when the file is not needed more.

    It starts when the open transaction, if there is one, has committed.

    Raises:
        Forbidden, NotFound, InvalidPayload: as with `run_import`.
        Unavailable: too many imports are running.
    """
    run = msgspec.structs.replace(run, ctx=ctx)

    async def work() -> None:
        try:
            await _work(importer, run)
        except BusbarError as refused:
            # The job says why, and that is where its owner looks.
            log.info("import_refused", import_id=str(run.import_id), reason=refused.detail)
        finally:
            done()

    def start() -> None:
        spawn(work(), name=f"import-{run.import_id}", pool="background")

    async with transaction():
        if await fetchval("select count(*) from core.import_job where state = 'running'") >= RUNNING_MAX:
            raise Unavailable(f"{RUNNING_MAX} imports are running; try again when one has ended.", retry_after_s=10)
        await _open(importer, run, file_name)
        on_commit(start)


async def fail_abandoned(now: datetime) -> int:
    """Mark as failed the running imports whose process has ended; returns how many."""
    rows = await fetch(
        "update core.import_job set state = 'failed', failure = $2, finished_at = $1 "
        "where state = 'running' and heartbeat_at < $3 returning import_id",
        now,
        _ABANDONED,
        now - timedelta(seconds=ABANDONED_AFTER_S),
    )
    for row in rows:
        log.warning("import_abandoned", import_id=str(row["import_id"]))
    return len(rows)


async def watch_imports(clock: Clock) -> None:
    """Look for abandoned imports, now and then again and again; a loop for the background."""
    while True:
        try:
            await fail_abandoned(clock())
        except DATABASE_TROUBLE as error:
            log.warning("imports_not_watched", error=repr(error))
        await asyncio.sleep(ABANDONED_AFTER_S / 2)


async def _open(importer: Importer, run: ImportRun, file_name: str) -> None:
    ctx = run.ctx
    ctx.require(importer.permission)
    module = importer.name.partition(".")[0]
    if module == CORE:
        if not ctx.actor.sees_site(run.site_id):
            raise NotFound(f"There is no site {run.site_id}.")
        await DIRECTORY.require_site(run.site_id)
    else:
        await module_scope(ctx, module, run.site_id)
    if run.mode not in (ALL_OR_NOTHING, PARTIAL):
        error = FieldError(field="mode", message=f"is {ALL_OR_NOTHING} or {PARTIAL}")
        raise InvalidPayload("The mode is not known.", errors=[error])
    if run.mapping is not None and importer.target is None:
        error = FieldError(field="mapping", message=f"{importer.name} reads files with fixed columns")
        raise InvalidPayload("This importer takes no mapping.", errors=[error])
    async with transaction():
        await execute(
            _OPEN,
            run.import_id,
            importer.name,
            run.site_id,
            file_name,
            run.mode,
            ctx.actor.username,
            ctx.correlation_id,
            ctx.clock(),
        )
        details = {"importer": importer.name, "file": file_name, "mode": run.mode}
        await _record(run, "import.start", details)


async def _work(importer: Importer, run: ImportRun) -> ImportReport:
    counter = _Counter(run.progress)
    try:
        ticker = spawn(_tell_progress(run, counter), name=f"import-progress-{run.import_id}", pool="background")
        try:
            report = await importer.run(msgspec.structs.replace(run, progress=counter.add))
        finally:
            await end_tasks(ticker)
    except BusbarError as refused:
        await _fail(run, refused.detail, counter.rows)
        raise
    except Exception:
        log.exception("import_failed", import_id=str(run.import_id), importer=importer.name)
        detail = f"Busbar failed at this import; the correlation id {run.ctx.correlation_id} leads to the cause."
        await _fail(run, detail, counter.rows)
        raise
    await _finish(run, report)
    return report


class _Counter:
    """The rows that were read; counted in the importer's thread, told from the event loop."""

    def __init__(self, also: Callable[[int], None]) -> None:
        self.rows = 0
        self._also = also

    def add(self, rows: int) -> None:
        self.rows += rows
        self._also(rows)


async def _tell_progress(run: ImportRun, counter: _Counter) -> None:
    told, silent_s = 0, 0.0
    while True:
        await asyncio.sleep(PROGRESS_S)
        silent_s += PROGRESS_S
        if counter.rows == told and silent_s < HEARTBEAT_S:
            continue
        try:
            await execute(
                "update core.import_job set rows_read = $2, heartbeat_at = $3 "
                "where import_id = $1 and state = 'running'",
                run.import_id,
                counter.rows,
                run.ctx.clock(),
            )
        except DATABASE_TROUBLE as error:
            # The import itself goes on, or fails by itself; the next beat tells more.
            log.warning("import_progress_not_told", import_id=str(run.import_id), error=repr(error))
            continue
        told, silent_s = counter.rows, 0.0


async def _finish(run: ImportRun, report: ImportReport) -> None:
    async with transaction():
        await execute(
            _FINISH,
            run.import_id,
            "done",
            report.rows_read,
            report.rows_accepted,
            report.rows_rejected,
            msgspec.json.encode(report).decode(),
            None,
            run.ctx.clock(),
        )
        counts = {"read": report.rows_read, "rejected": report.rows_rejected, **report.outcomes}
        await _record(run, "import.finish", counts)


async def _fail(run: ImportRun, reason: str, rows_read: int) -> None:
    async with transaction():
        await execute(_FINISH, run.import_id, "failed", rows_read, 0, 0, None, reason, run.ctx.clock())
        await _record(run, "import.fail", {"reason": reason})


async def _record(run: ImportRun, action: str, details: Mapping[str, object]) -> None:
    await record(
        run.ctx,
        action=action,
        object_kind="import",
        object_id=str(run.import_id),
        site_id=run.site_id,
        details=details,
    )
