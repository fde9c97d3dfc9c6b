"""How long does a real network take to load?

The SimBench grid of all voltage levels is loaded by `busbar import simbench`, twice: new, and with nothing to change.
Beside it stands PostgreSQL's bare COPY of the very rows that came of it, without and with the table's indexes.
"""

import asyncio
import io
import os
import re
import sys
import time
from pathlib import Path

import asyncpg
from acceptance.processes import PASSWORD, Installation, installation

from benchmarks.findings import Cell, Findings, Scale, Table, at_most, median

QUESTION = "How long does a real network take to load?"
GRID = Path(os.environ.get("BUSBAR_SHARED", Path(__file__).resolve().parents[2] / "shared"), "data", "simbench-grid")
SECONDS_MAX = 60.0
COPIES = 3


async def measure(scale: Scale) -> Findings:
    """Measure the commands from their start to their end."""
    assert GRID.is_dir(), f"The grid is not at {GRID}; set BUSBAR_SHARED to the folder that has `data/simbench-grid`."
    async with installation(fast_and_unsafe=False) as installed:
        await _command(installed, "site", "add", "north", "Depot North", "--module", "pm")
        start_s, _ = await _command(installed, "site", "list")
        arguments = ("import", "simbench", str(GRID), "--site", "north")
        first_s, told = await _command(installed, *arguments)
        again_s, _ = await _command(installed, *arguments)
        rows_read = int((re.search(r"(\d+) rows read", told) or [0, 0])[1])
        stored, bare_s, indexed_s = await _copy(installed.dsn)
    table: tuple[tuple[Cell, ...], ...] = (
        ("busbar import simbench, into an empty database", first_s, rows_read, rows_read / first_s),
        ("the same again: nothing to change", again_s, rows_read, rows_read / again_s),
        ("of that, starting and stopping (busbar site list)", start_s, None, None),
        ("COPY of the assets, table without indexes", bare_s, stored, stored / bare_s),
        ("COPY of the assets, table with its indexes", indexed_s, stored, stored / indexed_s),
    )
    return Findings(
        tables=(Table(title="SimBench grid, all voltage levels", columns=("", "s", "rows", "rows/s"), rows=table),),
        goals=(at_most("seconds to load the grid", first_s, SECONDS_MAX),),
        notes=(
            f"{rows_read:,} rows of the files become {stored:,} assets, each with an entry in the audit trail; "
            f"the import takes {first_s / indexed_s:.1f} times as long as COPY of the assets alone.",
        ),
    )


async def _command(installed: Installation, *arguments: str) -> tuple[float, str]:
    """Run `busbar …`; its seconds, and what it told."""
    environment = os.environ | {
        "DATABASE_URL": installed.dsn,
        "BUSBAR_HOME": str(installed.folder / "home"),
        "BUSBAR_ADMIN_PASSWORD": PASSWORD,
        "COLUMNS": "200",
    }
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "busbar", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
    )
    told = (await process.communicate())[0].decode()
    assert process.returncode == 0, told
    return time.perf_counter() - began, told


async def _copy(dsn: str) -> tuple[int, float, float]:
    """How many assets there are, and the seconds that COPY takes for them without and with indexes."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = io.BytesIO()
        await connection.copy_from_query("select * from pm.asset", output=rows, format="binary")
        count: int = await connection.fetchval("select count(*) from pm.asset")
        seconds: dict[str, list[float]] = {"": [], "including all": []}
        for _ in range(COPIES):
            for including, measured in seconds.items():
                await connection.execute(f"create table copied (like pm.asset {including})")
                rows.seek(0)
                began = time.perf_counter()
                await connection.copy_to_table("copied", source=rows, format="binary")
                measured.append(time.perf_counter() - began)
                await connection.execute("drop table copied")
        return count, median(seconds[""]), median(seconds["including all"])
    finally:
        await connection.close()
