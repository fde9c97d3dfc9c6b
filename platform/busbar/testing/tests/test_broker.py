"""The broker of the tests is a real one, keeps what it was given, and leaves nothing behind."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import aio_pika
import psutil
import pytest

from busbar.testing import broker_ground
from busbar.testing.broker import TICK_MS, TestBroker, broker
from busbar.testing.broker_ground import rabbitmq_programs


async def send(url: str, *bodies: bytes) -> None:
    """Publish persistent messages that end in busbar.outcomes, and wait until the broker has confirmed them."""
    async with await aio_pika.connect(url) as connection:
        exchange = await (await connection.channel()).get_exchange("busbar.outcomes")
        for body in bodies:
            await exchange.publish(aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT), "camel")


def relatives(folder: str) -> list[psutil.Process]:
    """Every process that was started with something of this folder, or works in it."""
    found = []
    for process in psutil.process_iter():
        try:
            if folder in " ".join(process.cmdline()) or process.cwd().startswith(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


class TestVhost:
    async def test_has_the_topology_and_shares_nothing_with_another(self, rabbitmq: TestBroker, vhost: str) -> None:
        other = await rabbitmq.create_vhost()
        try:
            await send(rabbitmq.url_of(vhost), b"1", b"2")
            await asyncio.sleep(2 * TICK_MS / 1000)
            assert (await rabbitmq.queues(vhost=vhost))["busbar.outcomes"].ready == 2
            assert (await rabbitmq.queues(vhost=other))["busbar.outcomes"].ready == 0
        finally:
            await rabbitmq.drop_vhost(other)


@pytest.fixture(scope="module")
async def node() -> AsyncIterator[TestBroker]:
    """A broker that may suffer; the one of the run is shared."""
    async with broker() as node:
        yield node


class TestFaults:
    async def test_what_was_confirmed_outlives_kill_9(self, node: TestBroker) -> None:
        await send(node.url, b"1", b"2", b"3")
        await node.kill()
        assert not node.runs()
        with pytest.raises(OSError):
            await aio_pika.connect(node.url)
        await node.start()
        async with await aio_pika.connect(node.url) as connection:
            queue = await (await connection.channel()).get_queue("busbar.outcomes")
            kept = [await queue.get(no_ack=True) for _ in range(3)]
            assert [message.body for message in kept] == [b"1", b"2", b"3"]

    async def test_publishers_wait_for_the_end_of_an_alarm(self, node: TestBroker) -> None:
        await node.alarm_on()
        sending = asyncio.create_task(send(node.url, b"late"))
        await asyncio.sleep(0.5)
        assert not sending.done()
        await node.alarm_off()
        await asyncio.wait_for(sending, 10)

    async def test_connections_are_closed_and_queues_deleted_on_request(self, node: TestBroker) -> None:
        connection = await aio_pika.connect(node.url)
        closed = asyncio.Event()
        connection.close_callbacks.add(lambda *_: closed.set())
        await node.close_connections()
        await asyncio.wait_for(closed.wait(), 10)
        await node.delete_queue("busbar.outcomes")
        assert "busbar.outcomes" not in await node.queues()


class TestEnd:
    def test_nothing_is_left_of_a_broker_whose_test_was_killed(self) -> None:
        owner = subprocess.Popen(
            [sys.executable, "-m", "busbar.testing.broker_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert owner.stdout is not None
        folder = json.loads(owner.stdout.readline())["folder"]
        family = relatives(folder)
        assert {"beam.smp", "epmd"} <= {process.name() for process in family}
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        psutil.wait_procs(family, timeout=10)
        assert relatives(folder) == []


class TestMissing:
    def test_a_machine_without_rabbitmq_fails_with_the_way_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(broker_ground, "EXTRA_PATH", ())
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(AssertionError, match=r"`ops/need.sh rabbitmq-server` installs it"):
            rabbitmq_programs()
