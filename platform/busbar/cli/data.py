"""Commands that fill the database: `migrate`, `seed`, `import`."""

import asyncio
import contextlib
import secrets
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from busbar.auth import commands as users
from busbar.cli.console import people
from busbar.cli.session import operator, run
from busbar.db import fetch, fetchval
from busbar.errors import InvalidPayload, NotFound
from busbar.imports.commands import run_import
from busbar.imports.contract import ALL_OR_NOTHING, PARTIAL, Importer, ImportRun
from busbar.imports.mapping import read_mapping
from busbar.imports.report import ImportReport
from busbar.runtime import Platform
from busbar.sites import commands as sites
from busbar.sites.directory import DIRECTORY

DEMO_SITES = (
    ("north", "Depot North", "Europe/Berlin"),
    ("south", "Depot South", "Europe/Berlin"),
    ("office", "Head office", "Europe/Berlin"),
)

DEMO_ROUNDS = 3
DEMO_WAIT_S_MAX = 60.0
_ON_THE_WAY = """
select exists(select from core.event where position is null) or exists(select from core.delivery
    where endpoint_id is null and state in ('pending', 'retrying', 'in_flight'))
"""


def run_migrate() -> None:
    """Every start of a platform migrates; this one ends after it."""

    async def work(running: Platform) -> list[str]:
        rows = await fetch("select name from core.migration order by app, name")
        return [row["name"] for row in rows]

    people.print(f"The schema is up to date: {len(run(work))} migrations.")


def run_seed(*, demo: bool) -> None:
    """Add demo data; without `--demo` there is nothing to add."""
    if not demo:
        raise InvalidPayload("Say what to add: busbar seed --demo.")
    run(add_demo_data, works=True)
    people.print("The demo data is there.")


async def add_demo_data(running: Platform) -> None:
    """Demo sites, one user for each role, and what the plugins add. Safe to run twice.

    The users' passwords are those of the first run: printed once, and stored nowhere.
    """
    ctx = operator()
    for site_id, name, timezone in DEMO_SITES:
        if not await fetchval("select exists(select from core.site where site_id = $1)", site_id):
            modules = running.catalog.modules
            await sites.create_site(ctx, site_id=site_id, name=name, timezone=timezone, modules=modules)
    await DIRECTORY.refresh()
    made = await _add_demo_users(running)
    for _ in range(DEMO_ROUNDS):
        for plugin in running.catalog.working:
            if plugin.demo_data is not None:
                await plugin.demo_data(ctx)
        # The next round goes on from what the modules made of each other's events, such as a request for approval.
        await _handlers_are_done()
    if made:
        table = Table("demo user", "role", "password", title="Demo users; the passwords are shown only now")
        for row in made:
            table.add_row(*row)
        people.print(table)


async def _handlers_are_done() -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DEMO_WAIT_S_MAX):
            while await fetchval(_ON_THE_WAY):  # noqa: ASYNC110 - the ledger tells the worker only
                await asyncio.sleep(0.1)
            return
    people.print("Some demo events are still being worked off; run busbar seed --demo again to go on.", style="yellow")


async def _add_demo_users(running: Platform) -> list[tuple[str, str, str]]:
    made = []
    password = running.settings.demo_password
    for row in await fetch("select role from core.role where role <> 'Admin' order by role"):
        role, username = row["role"], row["role"].lower().replace("_", ".")
        if await fetchval("select exists(select from core.user_account where username = $1)", username):
            continue
        chosen = password or secrets.token_urlsafe(12)
        await users.create_user(
            running.auth,
            operator(),
            username=username,
            display_name=role.replace("_", " "),
            password=chosen,
            roles=[role],
            sites=[site_id for site_id, _, _ in DEMO_SITES],
        )
        made.append((username, role, "that of BUSBAR_DEMO_PASSWORD" if password else chosen))
    return made


def run_importer(
    name: str,
    path: Path,
    *,
    site: str | None,
    partial: bool,
    mapping: Path | None,
    errors: Path | None = None,
) -> None:
    """Load a file or folder, with progress, and show the report."""
    if not path.exists():
        raise NotFound(f"There is nothing at {path}.")

    rules = read_mapping(mapping.read_bytes()) if mapping else None

    async def work(running: Platform) -> ImportReport:
        importer = _importer(running, name)
        site_id = site or _only_site()
        with Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=people, transient=True, disable=not people.is_terminal,
        ) as progress:  # fmt: skip
            task = progress.add_task(importer.title, total=None)
            return await run_import(
                operator(),
                importer,
                ImportRun(
                    ctx=operator(),
                    path=path,
                    site_id=site_id,
                    mode=PARTIAL if partial else ALL_OR_NOTHING,
                    mapping=rules,
                    progress=lambda rows: progress.advance(task, rows),
                ),
            )

    _show(run(work), errors)


def _importer(running: Platform, name: str) -> Importer:
    if name not in running.importers:
        raise NotFound(f"There is no importer {name}; there are {', '.join(sorted(running.importers))}.")
    return running.importers[name]


def _only_site() -> str:
    sites_there = DIRECTORY.all()
    if len(sites_there) != 1:
        cure = f"there are {', '.join(sites_there)}" if sites_there else "make one: busbar site add depot-1 'Depot 1'"
        raise InvalidPayload(f"Name the site with --site; {cure}.")
    return sites_there[0]


def _show(report: ImportReport, errors: Path | None) -> None:
    people.print(
        f"{report.rows_read} rows read, {report.rows_accepted} taken, {report.rows_rejected} rejected.",
        style="green" if not report.rows_rejected else "yellow",
    )
    if "withheld" in report.outcomes:
        people.print("Nothing was written; with --partial the good rows are.", style="yellow")
    for error in report.errors[:20]:
        people.print(f"  line {error.line}: {error.field}: {error.message} ({error.value!r})", markup=False)
    if report.errors_total > 20:
        people.print(f"  … {report.errors_total} errors in all; write them to a file with --errors FILE.")
    if errors is not None:
        errors.write_text(report.to_csv(), "utf-8")
