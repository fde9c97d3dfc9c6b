"""Several processes on one database: numbers stay unique, and everything happens once."""

import asyncio
import itertools

import pytest

from acceptance.api import Api
from acceptance.processes import installation
from acceptance.world import incident, world

PROCESSES = 4
CREATORS = 64
INCIDENTS = 20_000


@pytest.mark.slow
class TestScaleOut:
    @pytest.mark.timeout(900)
    async def test_64_creators_over_4_processes_make_20000_incidents_once_each(self) -> None:
        acknowledged: list[str] = []
        numbers = itertools.count()

        async def create(api: Api) -> None:
            while (n := next(numbers)) < INCIDENTS:
                acknowledged.append((await api.post("/api/v1/pm/incidents", incident(n)))["ticket_id"])

        async with installation() as installed, world(installed) as around:
            first = await installed.start()
            async with Api(first.url) as api:
                await around.furnish(api)
            others = await asyncio.gather(*(installed.start() for _ in range(PROCESSES - 1)))
            async with Api(first.url) as a, Api(others[0].url) as b, Api(others[1].url) as c, Api(others[2].url) as d:
                share = CREATORS // PROCESSES
                await asyncio.gather(*(create(api) for api in (a, b, c, d) for _ in range(share)))
                await a.drained(within_s=400)
            assert len(set(acknowledged)) == INCIDENTS
            assert await around.check_each_once(acknowledged) == INCIDENTS
            numbers_given = sorted(int(ticket_id.rsplit("-", 1)[1]) for ticket_id in acknowledged)
            days = {ticket_id.split("-")[2] for ticket_id in acknowledged}
            if len(days) == 1:
                assert numbers_given == list(range(1, INCIDENTS + 1)), "the numbers have gaps"

    async def test_four_processes_that_start_at_once_on_an_empty_database_share_the_work_of_migrating(self) -> None:
        async with installation() as installed:
            started = await asyncio.gather(*(installed.start() for _ in range(PROCESSES)))
            assert all(busbar.runs() for busbar in started)
            rows = await installed.query("select app, name, count(*) as times from core.migration group by 1, 2")
            assert rows
            assert {row["times"] for row in rows} == {1}
            keys = await installed.query("select count(*) as keys from core.signing_key")
            assert keys[0]["keys"] == 1
            users = await installed.query("select username from core.user_account")
            assert [row["username"] for row in users] == ["admin"]
