"""The yardstick: pgbench, PostgreSQL's own load generator in C, with a statement for each transaction."""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import msgspec

from benchmarks.findings import quantile
from busbar.db.binaries import candidates


class PgbenchMissing(RuntimeError):
    """There is no pgbench beside the PostgreSQL that Busbar uses: install the embedded one, or `postgresql-contrib`."""


class Transactions(msgspec.Struct, frozen=True, kw_only=True):
    """What pgbench got done."""

    per_second: float
    p50_ms: float
    p99_ms: float


async def pgbench(dsn: str, script: str, *, clients: int, seconds: float) -> Transactions:
    """Run a script for some seconds, as prepared statements.

    Raises:
        PgbenchMissing: there is no pgbench.
        AssertionError: it fails, or a client was aborted.
    """
    program = find_pgbench()
    with tempfile.TemporaryDirectory(prefix="busbar-pgbench-") as folder:
        file = Path(folder, "script.sql")
        file.write_text(script, "utf-8")
        process = await asyncio.create_subprocess_exec(
            program, "--no-vacuum", "--protocol=prepared", f"--client={clients}", "--jobs=1",
            f"--time={max(1, round(seconds))}", "--log", f"--log-prefix={folder}/log", f"--file={file}", dsn,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output = (await process.communicate())[0].decode()
        assert process.returncode == 0 and "aborted" not in output, output[:1000]
        # Columns of the log: client, transaction, microseconds, script, second, microsecond.
        waits_ms = [
            int(line.split()[2]) / 1e3 for log in Path(folder).glob("log*") for line in log.read_text().splitlines()
        ]
    (found,) = [line for line in output.splitlines() if line.startswith("tps = ")]
    return Transactions(
        per_second=float(found.split()[2]), p50_ms=quantile(waits_ms, 0.5), p99_ms=quantile(waits_ms, 0.99)
    )


def find_pgbench() -> Path:
    """The pgbench that belongs to the server, or any other."""
    on_path = shutil.which("pgbench")
    for program in [*(folder / "pgbench" for folder in candidates()), *([Path(on_path)] if on_path else [])]:
        if os.access(program, os.X_OK):
            return program
    raise PgbenchMissing(PgbenchMissing.__doc__)
