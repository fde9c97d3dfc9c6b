"""Processes are stopped and started under load, as on every upgrade: callers behind a proxy notice nothing.

`BUSBAR_FAULTS=full` gives the full counts, which `make faults` sets.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from acceptance.api import Api
from acceptance.haproxy import SEEN_S, in_front_of
from acceptance.load import Load
from acceptance.processes import free_port, installation
from acceptance.stage import Bus, Program, stage
from acceptance.world import world

FULL = os.environ.get("BUSBAR_FAULTS") == "full"
STOPS = 50 if FULL else 10
REQUESTS = 20_000 if FULL else 2_000
STOP_S_MAX = 30.0
"""Busbar's promise: so soon after SIGTERM it has ended."""
DRAIN_S = 3 * SEEN_S


@pytest.fixture
def bus() -> Iterator[Bus]:
    bus = Bus()
    yield bus
    bus.close()


@pytest.mark.slow
class TestStops:
    @pytest.mark.timeout(900)
    async def test_sigterm_again_and_again_under_load_loses_and_doubles_nothing(self, bus: Bus) -> None:
        async with stage(bus, bus.nodes[0]["url"]) as staged:
            async with staged.load.running():
                for n in range(STOPS):
                    ended_s = await staged.programs[("worker", "serve")[n % 2]].restart()
                    assert ended_s <= STOP_S_MAX
            await staged.settled()
            assert len(staged.load.acknowledged) > STOPS
            await staged.all_is_there_once()


@pytest.mark.slow
class TestRollingRestart:
    @pytest.mark.timeout(900)
    async def test_two_processes_restarted_in_turn_behind_a_proxy_fail_no_request(self) -> None:
        ports = [free_port(), free_port()]
        async with AsyncExitStack() as stack:
            installed = await stack.enter_async_context(installation())
            around = await stack.enter_async_context(world(installed))
            await installed.start("worker")
            apis = [Program(installed, "serve", "--no-work", port=port, BUSBAR_DRAIN_S=f"{DRAIN_S}") for port in ports]
            for program in apis:
                await program.start()
            front = await stack.enter_async_context(in_front_of(ports, http=True))
            api = await stack.enter_async_context(Api(f"http://127.0.0.1:{front}"))
            await around.furnish(api)
            load = Load(api, per_s=80)
            async with load.running():
                restarted = 0
                while restarted < 2 * len(apis) or len(load.acknowledged) < REQUESTS:
                    await apis[restarted % len(apis)].restart()
                    restarted += 1
                    await asyncio.sleep(SEEN_S)
            assert load.not_taken == []
            await api.drained(within_s=120)
            await around.check_each_once(load.acknowledged)
