"""What processes cost: processor time and memory of Busbar and of its PostgreSQL."""

import contextlib
from pathlib import Path

import psutil
from acceptance.processes import Installation


async def postmaster_of(installed: Installation) -> psutil.Process:
    """The server process of an installation; its backends are its children."""
    (row,) = await installed.query("select current_setting('data_directory') as folder")
    return psutil.Process(int(Path(row["folder"], "postmaster.pid").read_text().split()[0]))


def cpu_s(process: psutil.Process) -> float:
    """Processor time of a process, of its running children, and of those that have ended."""
    times = process.cpu_times()
    spent = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            spent += sum(child.cpu_times()[:2])
    return spent


def memory_mb(process: psutil.Process) -> float:
    """Memory of a process and its children; what several of them share is counted once (PSS), in MB (10^6 bytes)."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += each.memory_full_info().pss
    return total / 1e6
