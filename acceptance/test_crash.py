"""kill -9 at every step of the path: nothing that was acknowledged is lost, nothing is done twice (promise 1)."""

import asyncio
import itertools
import random
import signal

import aiohttp
import pytest

from acceptance.api import Api
from acceptance.processes import Busbar, Ended, Installation, installation
from acceptance.rabbitmq import BUS, RUNNER
from acceptance.world import World, incident, world

POINTS = {
    "open_before_commit": (8, 20),
    "open_after_commit": (1, 8),
    "change_before_commit": (1, 8),
    "relay_after_claim": (1, 4),
    "relay_before_commit": (1, 4),
    "relay_after_commit": (1, 4),
    "worker_after_claim": (1, 8),
    "worker_before_ledger": (1, 8),
    "worker_after_ledger": (1, 8),
}
"""Each step of the path, and between which passings of it the process dies."""
if RUNNER == "busbar":
    POINTS |= {"connector_before_remote": (1, 8), "connector_after_remote": (1, 8)}
else:
    POINTS |= {"handover_before_broker": (1, 8), "handover_after_broker": (1, 8)}
if BUS != "embedded":
    POINTS |= {"publication_before_cursor": (1, 4)}
RUNS = 10
REPORTS_PER_RUN = 6


class Reporter:
    """Reports incidents until the process dies, and remembers what was acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: list[str] = []
        self._numbers = itertools.count()

    async def report_until_death(self, busbar: Busbar) -> None:
        """A few reports at once, and a status change for each that is acknowledged, again and again."""
        try:
            await busbar.ready()
            async with Api(busbar.url) as api:
                while busbar.runs():
                    await asyncio.gather(*(self._report(api) for _ in range(REPORTS_PER_RUN)))
        except (aiohttp.ClientError, TimeoutError, Ended):
            return

    async def _report(self, api: Api) -> None:
        reported = await api.post("/api/v1/pm/incidents", incident(next(self._numbers)))
        self.acknowledged.append(reported["ticket_id"])
        await api.patch(f"/api/v1/tickets/{reported['ticket_id']}/status", {"new_status": "Assigned"})


async def die_at(installed: Installation, point: str, reporter: Reporter, chance: random.Random) -> None:
    """Start a Busbar that dies at the n-th passing of the point, perhaps while it recovers; work with it until then."""
    busbar = await installed.launch(BUSBAR_CRASH=f"{point}:{chance.randint(*POINTS[point])}")
    async with asyncio.timeout(60):
        await reporter.report_until_death(busbar)
        assert await busbar.ended() == -signal.SIGKILL, f"{point} was never reached"


async def check_after_recovery(installed: Installation, around: World, reporter: Reporter) -> int:
    """Start a Busbar that lives, let it finish everything, and count."""
    busbar = await installed.start()
    async with Api(busbar.url) as api:
        await api.drained(within_s=60)
        summary = await api.get("/api/v1/deliveries/summary")
        assert summary["parked"] == 0
        assert summary["balanced"]
    return await around.check_each_once(reporter.acknowledged)


@pytest.mark.slow
class TestCrash:
    @pytest.mark.parametrize("point", POINTS)
    @pytest.mark.timeout(600)
    async def test_a_kill_at_this_point_loses_and_doubles_nothing(self, point: str) -> None:
        chance = random.Random(point)
        reporter = Reporter()
        async with installation() as installed, world(installed) as around:
            first = await installed.start()
            async with Api(first.url) as api:
                await around.furnish(api)
            await first.stop()
            for _ in range(RUNS):
                await die_at(installed, point, reporter, chance)
            stored = await check_after_recovery(installed, around, reporter)
            assert stored >= len(reporter.acknowledged) > RUNS
