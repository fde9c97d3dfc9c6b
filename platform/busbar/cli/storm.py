"""`busbar simulate storm`: reports many incidents at once over HTTP, and tells what became of them."""

import asyncio
import random
import time
from typing import Any

import aiohttp
import msgspec
import uvloop
from rich.progress import Progress

from busbar.cli.console import people
from busbar.errors import Unavailable

_FAULTS = ("outage", "outage", "outage", "fault", "degradation")
_SEVERITIES = ("P1", "P2", "P2", "P3", "P3", "P3", "P4")


class StormReport(msgspec.Struct, kw_only=True):
    """What became of the storm; latencies are seconds."""

    accepted: int = 0
    refused: int = 0
    failed: int = 0
    seconds: float = 0.0
    latencies_s: list[float] = []

    def quantile_s(self, share: float) -> float:
        """The latency below which `share` (0 to 1) of the accepted requests were answered."""
        if not self.latencies_s:
            return 0.0
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def run_storm(
    url: str, username: str, password: str, *, incidents: int, seconds: float, connections: int, site: str | None
) -> None:
    """Run a storm and print its report."""
    report = uvloop.run(
        storm(url, username, password, incidents=incidents, seconds=seconds, connections=connections, site=site)
    )
    people.print(
        f"{report.accepted} accepted, {report.refused} refused for now, {report.failed} failed in "
        f"{report.seconds:.1f} s ({report.accepted / max(report.seconds, 0.001):.0f}/s); accepted within "
        f"p50 {report.quantile_s(0.5) * 1000:.0f} ms, p99 {report.quantile_s(0.99) * 1000:.0f} ms, "
        f"p99.9 {report.quantile_s(0.999) * 1000:.0f} ms"
    )


async def storm(
    url: str, username: str, password: str, *, incidents: int, seconds: float, connections: int, site: str | None
) -> StormReport:
    """Report `incidents` incidents on random assets, spread evenly over `seconds`, `connections` at a time.

    Raises:
        Unavailable: Busbar does not answer, refuses the sign-in, or has no assets.
    """
    report = StormReport(latencies_s=[])
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        token = await _sign_in(session, username, password)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        assets = await _assets(session, headers, site)
        numbers = iter(range(incidents))
        started = time.perf_counter()
        with Progress(console=people) as progress:
            task = progress.add_task("Storm", total=incidents)

            async def reporter() -> None:
                for number in numbers:
                    due = started + number * seconds / incidents
                    if (wait := due - time.perf_counter()) > 0:
                        await asyncio.sleep(wait)
                    await _report_one(session, headers, random.choice(assets), number, report)
                    progress.advance(task)

            async with asyncio.TaskGroup() as group:
                for _ in range(connections):
                    group.create_task(reporter())
        report.seconds = time.perf_counter() - started
    return report


async def _report_one(
    session: aiohttp.ClientSession, headers: dict[str, str], asset: str, number: int, report: StormReport
) -> None:
    body = msgspec.json.encode(
        {
            "asset_id": asset,
            "fault_type": random.choice(_FAULTS),
            "severity": random.choice(_SEVERITIES),
            "description": f"Storm report {number}",
        }
    )
    began = time.perf_counter()
    try:
        async with session.post("/api/v1/pm/incidents", data=body, headers=headers) as response:
            await response.read()
            status = response.status
    except aiohttp.ClientError:
        report.failed += 1
        return
    if status == 201:
        report.accepted += 1
        report.latencies_s.append(time.perf_counter() - began)
    elif status in (429, 503):
        report.refused += 1
    else:
        report.failed += 1


async def _sign_in(session: aiohttp.ClientSession, username: str, password: str) -> str:
    try:
        async with session.post("/api/v1/auth/login", json={"username": username, "password": password}) as response:
            answer: dict[str, Any] = await response.json(content_type=None)
    except aiohttp.ClientError as error:
        raise Unavailable(f"Busbar does not answer: {error}") from error
    if "access_token" not in answer:
        raise Unavailable(f"The sign-in was refused: {answer.get('detail')}")
    return str(answer["access_token"])


async def _assets(session: aiohttp.ClientSession, headers: dict[str, str], site: str | None) -> list[str]:
    found: list[str] = []
    for kind in ("transformer", "feeder"):
        parameters = {"asset_type": kind, "limit": "200"} | ({"site": site} if site else {})
        async with session.get("/api/v1/pm/assets", params=parameters, headers=headers) as response:
            answer = await response.json(content_type=None)
        found += [asset["asset_id"] for asset in answer.get("items", ())]
    if not found:
        raise Unavailable("There are no transformers or feeders; load a grid first: busbar import simbench DIR.")
    return found
