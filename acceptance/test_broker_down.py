"""The broker fails in every way it can, under load: callers notice nothing, nothing is lost, nothing is done twice.

`BUSBAR_FAULTS=full` gives each fault its full length, ten minutes for the broker that is killed; `make faults` sets it.
"""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from acceptance.load import percentile
from acceptance.stage import ROUTE_QUEUE, Bus, Link, Stage, send_to_bus, stage

FULL = os.environ.get("BUSBAR_FAULTS") == "full"
KILLED_S = 600.0 if FULL else 20.0
FAULT_S = 60.0 if FULL else 6.0
SILENT_S = 60.0 if FULL else 14.0
"""Long enough for a publish to be given up, and for a canary not to come back."""
CALM_S = 60.0 if FULL else 6.0
HANDLER_QUEUE = "busbar.deliver.pm.plan_follows_incident"
KEY = "north.pm.PM_TICKET_CREATED"
SLOWER_MAX = 2.0
"""So many times its normal 99th percentile an answer may take while the broker is away."""


@pytest.fixture(scope="module")
def bus() -> AsyncIterator[Bus]:
    bus = Bus()
    yield bus
    bus.close()


@pytest.fixture(scope="module")
def link(bus: Bus) -> AsyncIterator[Link]:
    link = Link(bus.nodes[0]["port"])
    yield link
    link.close()


@pytest.fixture(scope="module")
async def staged(bus: Bus, link: Link) -> AsyncIterator[Stage]:
    async with stage(bus, bus.url_at(link.port)) as staged:
        yield staged


def slower(troubled: list[float], calm: list[float]) -> float:
    return percentile(troubled, 0.99) / percentile(calm, 0.99)


@pytest.mark.slow
@pytest.mark.timeout(1800)
class TestBrokerDown:
    """One after the other on one stage; each begins where the one before has healed."""

    async def test_a_killed_broker_is_missed_by_nobody_who_calls_and_catches_up_when_it_is_back(
        self, staged: Stage
    ) -> None:
        calm = await staged.load.run_for(CALM_S)
        assert await staged.counter('busbar_bus_taken_total{path="bus"}') > 0, "the bus carried nothing in calm times"
        await staged.settled()
        heard = len(staged.peer.ids)
        await staged.bus.ask("kill")
        troubled = await staged.load.run_for(KILLED_S)
        # Busbar's own work and the remote system do not wait for the broker; only peers do.
        await staged.api.drained(within_s=60)
        assert len(staged.peer.ids) == heard
        await staged.bus.ask("start")
        await staged.settled()
        # A short run has few samples, so what is normal is taken from before and after.
        calm += await staged.load.run_for(CALM_S)
        await staged.settled()
        await staged.all_is_there_once()
        assert staged.load.not_taken == []
        assert slower(troubled, calm) <= SLOWER_MAX

    async def test_a_line_that_goes_silent_without_closing_is_given_up_and_opened_again(
        self, staged: Stage, link: Link
    ) -> None:
        await staged.load.run_for(1)
        await link.switch("half-open")
        await staged.load.run_for(SILENT_S)
        await staged.api.drained(within_s=60)
        await link.switch("pass")
        await staged.settled()
        await staged.all_is_there_once()
        assert staged.load.not_taken == []

    async def test_a_broker_that_is_out_of_memory_stops_nobody_but_its_peers(self, staged: Stage) -> None:
        await staged.load.run_for(1)
        await staged.bus.ask("alarm_on")
        await staged.load.run_for(FAULT_S)
        await staged.api.drained(within_s=60)
        await staged.bus.ask("alarm_off")
        await staged.settled()
        await staged.all_is_there_once()
        assert staged.load.not_taken == []

    async def test_a_deleted_queue_is_declared_again_and_what_was_in_it_is_done(self, staged: Stage) -> None:
        async with staged.load.running():
            for queue in (ROUTE_QUEUE, HANDLER_QUEUE):
                await asyncio.sleep(FAULT_S / 2)
                await staged.bus.ask("delete_queue", name=queue)
            await asyncio.sleep(FAULT_S / 2)
        await staged.settled()
        queues = await staged.bus.ask("queues")
        assert {ROUTE_QUEUE, HANDLER_QUEUE} <= set(queues)
        assert min(queues[queue]["consumers"] for queue in (ROUTE_QUEUE, HANDLER_QUEUE)) > 0
        await staged.all_is_there_once()
        assert staged.load.not_taken == []

    async def test_connections_that_are_closed_again_and_again_are_opened_again(self, staged: Stage) -> None:
        async with staged.load.running():
            for _ in range(5):
                await asyncio.sleep(FAULT_S / 5)
                await staged.bus.ask("close_connections")
        await staged.settled()
        await staged.all_is_there_once()
        assert staged.load.not_taken == []

    async def test_a_message_that_is_not_ours_is_set_aside_and_counted_and_all_else_goes_on(
        self, staged: Stage
    ) -> None:
        refused = await staged.counter("busbar_bus_refused_total")
        await send_to_bus(staged.bus, KEY, b"not an event", message_id="not an id")
        await staged.load.run_for(2)
        await staged.settled()
        waiting = await staged.bus.ready_in("busbar.dead")
        assert waiting > 0
        assert await staged.counter("busbar_bus_refused_total") - refused == waiting
        await staged.around.check_each_once(staged.load.acknowledged)
        assert staged.load.not_taken == []
