"""Whatever ends a link to the broker, its supervisor opens another one: consumers must not fall silent for good."""

from typing import Any

import pytest

from busbar.bus.broker import running_broker
from busbar.bus.consumers import Consumers
from busbar.bus.link import BrokerAddress, Link, open_link
from busbar.bus.tests.test_broker import collect, connected, consuming, message, until
from busbar.testing.broker import TestBroker


async def test_a_channel_on_a_connection_that_was_just_closed_is_trouble_with_the_link(
    rabbitmq: TestBroker, vhost: str
) -> None:
    async with open_link(BrokerAddress(rabbitmq.url_of(vhost)), name="closed") as link:
        await link._connection.close()
        with pytest.raises(ConnectionResetError):
            async with link.another_channel():
                pass
        assert not link.stands


async def test_consumers_come_back_after_a_fault_that_nobody_thought_of(
    rabbitmq: TestBroker, vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, calls = Consumers._apply, 0

    async def fails_once(self: Consumers, link: Link) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyError("a fault of ours")
        return await apply(self, link)

    monkeypatch.setattr(Consumers, "_apply", fails_once)
    async with running_broker(rabbitmq.url_of(vhost)) as client:
        await connected(client)
        got = collect(client)
        await consuming(client)
        assert await client.publish([message(1)]) == []
        await until(lambda: got == ["m-1"])
    assert calls > 1
