"""A storm of incident reports, by `busbar simulate storm`."""

import asyncio
import re
import sys

import msgspec
from acceptance.processes import PASSWORD


class Storm(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it."""

    accepted: int
    refused: int
    failed: int
    per_second: float
    p50_ms: float
    p99_ms: float


async def storm(url: str, *, incidents: int, seconds: float) -> Storm:
    """Report so many incidents, spread evenly over the seconds; 0 is as fast as it goes.

    Raises:
        AssertionError: the command failed.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "busbar", "simulate", "storm", "--url", url, "--password", PASSWORD),
        *("--incidents", str(incidents), "--seconds", str(seconds)),
        stderr=asyncio.subprocess.PIPE,
    )
    told = " ".join((await process.communicate())[1].decode().split())
    found = re.search(
        r"(\d+) accepted, (\d+) refused for now, (\d+) failed in \S+ s \((\d+)/s\); accepted within p50 (\d+) ms, "
        r"p99 (\d+) ms",
        told,
    )
    assert process.returncode == 0 and found, told
    accepted, refused, failed, per_second, p50_ms, p99_ms = (int(number) for number in found.groups())
    return Storm(
        accepted=accepted,
        refused=refused,
        failed=failed,
        per_second=float(per_second),
        p50_ms=float(p50_ms),
        p99_ms=float(p99_ms),
    )
