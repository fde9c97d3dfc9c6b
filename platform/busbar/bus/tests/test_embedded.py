"""What the embedded transport does that no other has to: it asks the ledger for no more than there is to know."""

import asyncio

import pytest

from busbar.bus import embedded
from busbar.bus.embedded import EmbeddedTransport
from busbar.bus.tests.lab import LANE, relay_facts
from busbar.db.wakeup import Channel, poke
from busbar.events import ledger
from busbar.events.ledger import Claimed, Outcome
from busbar.events.tests.facts import rows_read

pytestmark = pytest.mark.usefixtures("database")

BACKLOG = 300


async def end(transport: EmbeddedTransport, held: Claimed) -> None:
    await ledger.settle([(held, Outcome(state="delivered"))])
    transport.done(held)


async def take(transport: EmbeddedTransport, count: int = 16) -> list[Claimed]:
    return await transport.take({LANE: count}, worker=1, at_most=count)


class TestALineBehindOneKey:
    async def test_is_worked_off_without_looking_at_all_of_it_each_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(embedded, "LOOK_S", 60.0)
        transport = EmbeddedTransport()
        with transport.work_signal():
            await relay_facts(*["S-1"] * BACKLOG)
            (held,) = await take(transport)
            for position in range(2, 12):
                await end(transport, held)
                found: list[Claimed] = []

                async def take_next(found: list[Claimed] = found) -> None:
                    found += await take(transport)

                assert await rows_read(take_next) < 20
                (held,) = found
                assert held.event.position == position

    async def test_lets_news_of_other_keys_pass(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(embedded, "LOOK_S", 60.0)
        transport = EmbeddedTransport()
        with transport.work_signal():
            await relay_facts(*["S-1"] * 5)
            assert len(await take(transport)) == 1
            assert await take(transport) == []
            await relay_facts("S-2")
            assert [held.event.subject for held in await take(transport)] == ["S-2"]


class TestWhatNobodyTellsOf:
    async def test_is_found_by_looking_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(embedded, "LOOK_S", 0.1)
        transport, other = EmbeddedTransport(), EmbeddedTransport()
        with transport.work_signal(), other.work_signal():
            await relay_facts("S-1", "S-1")
            (held,) = await take(transport)
            assert await take(other) == []
            await end(transport, held)  # and this process takes no more
            await asyncio.sleep(0.11)
            assert len(await take(other)) == 1

    async def test_is_all_asked_for_while_there_is_enough(self) -> None:
        transport = EmbeddedTransport()
        with transport.work_signal():
            await relay_facts(*(f"S-{n}" for n in range(20)))
            sizes = [len(await take(transport, 4)) for _ in range(6)]
        assert sizes == [4, 4, 4, 4, 4, 0]

    async def test_of_a_lane_that_was_full_is_taken_when_it_has_room_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded, "LOOK_S", 60.0)
        transport = EmbeddedTransport()
        with transport.work_signal():
            await relay_facts(*(f"S-{n}" for n in range(6)))
            first = await take(transport, 2)
            assert await transport.take({"tst.other": 5}, worker=1, at_most=10) == []
            await end(transport, first[0])
            assert len(await take(transport, 1)) == 1


class TestAKeyWhoseLaneHasNoRoom:
    async def test_is_asked_for_when_it_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(embedded, "LOOK_S", 60.0)
        transport = EmbeddedTransport()
        with transport.work_signal():
            await relay_facts("S-1", "S-1", "S-2", "S-2")
            one, two = await take(transport)
            await end(transport, one)
            await end(transport, two)
            assert len(await take(transport, 1)) == 1
            assert len(await take(transport, 1)) == 1
            poke(Channel.DELIVERIES)
            assert await take(transport, 1) == []
