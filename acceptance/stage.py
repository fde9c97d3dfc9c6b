"""A RabbitMQ that can be made to fail, an API and a worker on it, and a peer that hears what the bus brings."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import aiohttp

from acceptance.api import Api
from acceptance.json_process import JsonProcess
from acceptance.load import Load
from acceptance.peer import EVENTS, NAME, PASSWORD, Peer, listening
from acceptance.processes import Busbar, Installation, free_port, installation
from acceptance.world import World, world

EVENTS_PER_S = 50
ROUTE_QUEUE = "busbar.deliver.route:pm-to-desk"
DRAIN_S_MAX = 300.0
"""So soon after an outage everything has happened and every peer has heard of it."""


class Bus:
    """The nodes of a RabbitMQ, in a process of their own."""

    def __init__(self, nodes: int = 1) -> None:
        self._process = JsonProcess(
            *("-m", "busbar.testing.broker_server", "--nodes", str(nodes), "--peer", f"{NAME}={PASSWORD}")
        )
        self.nodes: list[dict[str, Any]] = self._process.read()["nodes"]

    @property
    def peer_urls(self) -> list[str]:
        """Where the peer finds each node."""
        return [node["peers"][NAME] for node in self.nodes]

    def url_at(self, port: int) -> str:
        """The address for Busbar, by way of something that listens on `port`."""
        return str(self.nodes[0]["url"]).replace(f":{self.nodes[0]['port']}/", f":{port}/")

    async def ask(self, verb: str, **arguments: Any) -> Any:
        """Have a node do something. Raises AssertionError with what it says when it cannot."""
        answer = await asyncio.to_thread(self._process.ask, {"do": verb, **arguments})
        assert "done" in answer, answer
        return answer["done"]

    async def ready_in(self, queue: str) -> int:
        """How many messages wait in a queue."""
        return int((await self.ask("queues"))[queue]["messages_ready"])

    def close(self) -> None:
        """End it, and whatever it started."""
        self._process.close()


async def send_to_bus(bus: Bus, routing_key: str, body: bytes, *, message_id: str) -> None:
    """Publish something to the exchange of events, as Busbar's own user."""
    async with await aio_pika.connect(bus.url_at(bus.nodes[0]["port"])) as connection:
        exchange = await (await connection.channel()).get_exchange(EVENTS, ensure=False)
        await exchange.publish(aio_pika.Message(body, message_id=message_id), routing_key)


class Link:
    """The line between Busbar and the broker, by way of a proxy that can silence it."""

    def __init__(self, port: int) -> None:
        self._process = JsonProcess("-m", "busbar.testing.proxy", str(port))
        self.port = int(self._process.read()["port"])

    async def switch(self, mode: str) -> None:
        """Behave so from now on: `pass`, `half-open`, `reset`, `refuse`."""
        assert await asyncio.to_thread(self._process.ask, {"mode": mode}) == {"mode": mode}

    def close(self) -> None:
        """End it."""
        self._process.close()


class Stage:
    """Everything together; `settled` says when the bus has come to rest."""

    def __init__(self, bus: Bus, programs: dict[str, "Program"], around: World, api: Api, peer: Peer) -> None:
        self.bus, self.programs, self.around, self.api, self.peer = bus, programs, around, api, peer
        self.load = Load(api, per_s=EVENTS_PER_S)
        self._first_position = 0

    @property
    def installed(self) -> Installation:
        """The folder and the database."""
        return self.around.installed

    async def begin(self) -> None:
        """Wait until the bus carries, and furnish the world."""
        async with asyncio.timeout(60):
            while (position := await self._published()) is None:
                await asyncio.sleep(0.05)
        self._first_position = position
        await self.around.furnish(self.api)
        await self.settled()

    async def settled(self) -> float:
        """Wait until every delivery is made, the peer knows every event, and each queue is consumed.

        Returns after how many seconds.

        Raises:
            AssertionError: that is not so after `DRAIN_S_MAX`, or the peer heard something else, or in another order.
        """
        began = time.monotonic()
        told: list[str] = []
        try:
            async with asyncio.timeout(DRAIN_S_MAX):
                await self.api.sign_in()
                await self.api.drained(within_s=DRAIN_S_MAX)
                while len(self.peer.ids) < len(told := await self._told()) or await self._idle_queues():
                    await asyncio.sleep(0.2)
        except TimeoutError:
            heard, summary = len(self.peer.ids), await self.api.get("/api/v1/deliveries/summary")
            idle = await self._idle_queues()
            raise AssertionError(
                f"not drained: the peer has {heard} of {len(told)} events; deliveries {summary}; not consumed: {idle}"
            ) from None
        # Read after what was heard: a request may still have written something, and the peer have heard it or not.
        heard_ids = list(self.peer.ids)
        happened = dict(enumerate(await self._told()))
        wrong = [(nth, each) for nth, each in enumerate(heard_ids) if happened.get(nth) != each]
        numbers = {each: nth for nth, each in happened.items()}
        shown = "; ".join(f"{nth}: {each}, which is number {numbers.get(each)}" for nth, each in wrong[:20])
        assert not wrong, f"the peer heard {len(wrong)} of {len(heard_ids)} otherwise than they happened: {shown}"
        return time.monotonic() - began

    async def all_is_there_once(self) -> None:
        """Every acknowledged incident has happened, here and at the remote system, once; nothing was given up."""
        summary = await self.api.get("/api/v1/deliveries/summary")
        assert (summary["parked"], summary["balanced"]) == (0, True), summary
        assert await self.bus.ready_in("busbar.dead") == 0, "something was dead-lettered at the broker"
        assert await self.around.check_each_once(self.load.acknowledged) > 0

    async def counter(self, name: str) -> float:
        """A metric of the worker."""
        worker = self.programs["worker"].running
        async with aiohttp.ClientSession() as session, session.get(f"{worker.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        (line,) = (line for line in lines if line.startswith(f"{name} "))
        return float(line.split()[-1])

    async def _published(self) -> int | None:
        rows = await self.installed.query("select position from core.publication")
        return rows[0]["position"] if rows else None

    async def _idle_queues(self) -> list[str]:
        """Queues of Busbar's own that nobody consumes, or that still hold something, with how much."""
        queues = await self.bus.ask("queues")
        missing = [] if ROUTE_QUEUE in queues or not self.load.acknowledged else [ROUTE_QUEUE]
        return missing + [
            f"{name}: {queue['consumers']} consumers, {queue['messages_ready']} ready"
            for name, queue in queues.items()
            if name.startswith("busbar.deliver.") and (queue["consumers"] == 0 or queue["messages_ready"] > 0)
        ]

    async def _told(self) -> list[str]:
        """The ids of all events since the begin, in their order."""
        rows = await self.installed.query(
            "select event_id::text as id from core.event where position is null or position > $1 order by position",
            self._first_position,
        )
        return [row["id"] for row in rows]


class Program:
    """A command of Busbar's that is stopped and started again, with the same port and the same broker."""

    def __init__(self, installed: Installation, *arguments: str, port: int, **environment: str) -> None:
        self._installed, self._arguments, self._port, self._environment = installed, arguments, port, environment

    async def start(self) -> Busbar:
        """Start it; returns when it is ready."""
        self.running = await self._installed.start(*self._arguments, port=self._port, **self._environment)
        return self.running

    async def restart(self) -> float:
        """SIGTERM, wait for its end, and start it again; returns after how many seconds it had ended.

        Raises:
            AssertionError: it did not end in good order.
        """
        began = time.monotonic()
        status = await self.running.stop()
        ended_s = time.monotonic() - began
        assert status == 0, f"{self._arguments} ended with {status}"
        await self.start()
        return ended_s


@asynccontextmanager
async def stage(bus: Bus, amqp_url: str) -> AsyncIterator[Stage]:
    """An API and a worker that reach the broker by `amqp_url`, for the time of the block."""
    async with installation() as installed, world(installed) as around, listening(*bus.peer_urls) as peer:
        programs = {
            name: Program(installed, *arguments, port=free_port(), AMQP_URL=amqp_url)
            for name, arguments in (("worker", ("worker",)), ("serve", ("serve", "--no-work")))
        }
        for program in programs.values():
            await program.start()
        async with Api(programs["serve"].running.url) as api:
            on_stage = Stage(bus, programs, around, api, peer)
            await on_stage.begin()
            yield on_stage
