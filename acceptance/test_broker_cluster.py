"""A cluster of three brokers loses one of them under load: nothing is lost, nothing is done twice."""

import asyncio
import os
from collections.abc import Iterator

import pytest

from acceptance.haproxy import in_front_of
from acceptance.stage import ROUTE_QUEUE, Bus, stage

FULL = os.environ.get("BUSBAR_FAULTS") == "full"
KILLS = 6 if FULL else 1
LOAD_S = 10.0 if FULL else 4.0


@pytest.fixture
def bus() -> Iterator[Bus]:
    bus = Bus(nodes=3)
    yield bus
    bus.close()


@pytest.mark.slow
class TestCluster:
    @pytest.mark.timeout(900)
    async def test_the_node_that_leads_a_queue_is_killed_under_load_and_comes_back(self, bus: Bus) -> None:
        ports = [node["port"] for node in bus.nodes]
        async with in_front_of(ports, http=False) as port, stage(bus, bus.url_at(port)) as staged:
            async with staged.load.running():
                for _ in range(KILLS):
                    await asyncio.sleep(LOAD_S)
                    leader = int((await bus.ask("leader_of", name=ROUTE_QUEUE)).removeprefix("rabbit")) - 1
                    await bus.ask("kill", node=leader)
                    await asyncio.sleep(LOAD_S)
                    survivor = (leader + 1) % 3
                    assert await bus.ask("leader_of", name=ROUTE_QUEUE, node=survivor) != f"rabbit{leader + 1}"
                    await bus.ask("start", node=leader)
            await staged.settled()
            assert staged.load.not_taken == []
            await staged.all_is_there_once()
