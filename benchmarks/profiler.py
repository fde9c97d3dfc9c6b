"""Where the processor time of a running Busbar goes, by package, sampled by py-spy from outside."""

import asyncio
import collections
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.findings import HERE, Table

RATE_PER_S = 200
ROWS_MAX = 14
_WAITING = ("_worker (concurrent/futures", "wait (threading.py", "LineSink._run")
"""Leaves of threads that sleep."""


async def profile_of(pid: int, *, seconds: float) -> Table:
    """Sample a process for some seconds; the share of each package is that of the innermost Python frame.

    What compiled code takes counts for the frame that called it. py-spy is fetched into a temporary folder if it is
    not installed; without it the table is empty and says why.
    """
    with tempfile.TemporaryDirectory(prefix="busbar-py-spy-") as folder:
        program = await _py_spy(Path(folder))
        if program is None:
            return _table({}, "not taken: py-spy is not installed and cannot be fetched")
        out = Path(folder, "samples.txt")
        code, said = await _run(
            str(program), "record", "--pid", str(pid), "--duration", str(round(seconds)), "--rate", str(RATE_PER_S),
            "--format", "raw", "--output", str(out), "--nonblocking",
        )  # fmt: skip
        if code or not out.exists():
            return _table({}, f"not taken: py-spy may not look into the process ({said.strip().splitlines()[-1:]})")
        return _table(_by_package(out.read_text()), f"sampled {RATE_PER_S} times a second")


def _by_package(samples: str) -> dict[str, int]:
    counted: collections.Counter[str] = collections.Counter()
    for line in samples.splitlines():
        stack, _, count = line.rpartition(" ")
        leaf = stack.rpartition(";")[2]
        if not any(waiting in leaf for waiting in _WAITING):
            counted[_package(leaf)] += int(count)
    return dict(counted.most_common())


def _package(frame: str) -> str:
    file = frame.rpartition("(")[2].partition(":")[0]
    if file == "asyncio/runners.py":
        return "event loop and sockets (uvloop)"
    parts = Path(file).parts
    if parts and parts[0] == "busbar" and len(parts) > 2:
        return f"busbar.{parts[1]}"
    known = ("busbar_pm", "litestar", "uvicorn", "asyncpg", "piccolo", "structlog", "msgspec", "jwt")
    if parts and parts[0] in known:
        return parts[0]
    return f"standard library: {Path(parts[0]).stem if parts else 'other'}"


def _table(counted: dict[str, int], remark: str) -> Table:
    total = sum(counted.values()) or 1
    rows = [(name, 100 * count / total) for name, count in counted.items()]
    rest = sum(share for _, share in rows[ROWS_MAX:])
    shown = [*rows[:ROWS_MAX], *([("others", rest)] if rest else [])]
    return Table(
        title=f"Processor time of the API under this load, by package of the innermost frame ({remark})",
        columns=("package", "%"),
        rows=tuple(shown),
    )


async def _py_spy(folder: Path) -> Path | None:
    if found := shutil.which("py-spy"):
        return Path(found)
    uv = shutil.which("uv") or str(HERE.parent / ".tools" / "uv")
    for command in (
        (uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(folder), "py-spy"),
        ("python3", "-m", "pip", "install", "--quiet", "--target", str(folder), "py-spy"),
    ):
        try:
            code, _ = await _run(*command)
        except FileNotFoundError:
            continue
        if code == 0 and (folder / "bin" / "py-spy").exists():
            return folder / "bin" / "py-spy"
    return None


async def _run(*command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode()
    return process.returncode or 0, output
