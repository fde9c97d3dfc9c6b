"""The relay against a real database: places in the stream, deliveries, and what must not stop it."""

import asyncio
import random

import pytest

from busbar.db import fetch, fetchrow, fetchval, spawn, transaction
from busbar.db.wakeup import Channel, poke
from busbar.events.envelope import StoredEvent
from busbar.events.outbox import NotInTransaction, publish
from busbar.events.relay import Relay
from busbar.events.subscriptions import Match
from busbar.events.tests.facts import Fact, a_context, a_relay, a_subscription, tell

pytestmark = pytest.mark.usefixtures("database")


class Held:
    """A transaction that has told of a fact and commits when it is let go."""

    def __init__(self, n: int, subject: str) -> None:
        self.told = asyncio.Event()
        self.let_go = asyncio.Event()
        self.task = spawn(self._run(n, subject), name=f"held-{n}")

    async def _run(self, n: int, subject: str) -> None:
        async with transaction():
            await tell(n, subject=subject)
            self.told.set()
            await self.let_go.wait()

    async def commit(self) -> None:
        self.let_go.set()
        await self.task


async def relay_all(relay: Relay) -> None:
    while await relay.move_batch() != 0:
        pass


class TestPublish:
    async def test_refuses_to_tell_of_a_change_outside_of_its_transaction(self) -> None:
        with pytest.raises(NotInTransaction):
            await publish(a_context(), "TST_FACT", subject="S", site_id="north", data=Fact(n=1))

    async def test_tells_nothing_of_a_change_that_was_rolled_back(self) -> None:
        with pytest.raises(ZeroDivisionError):
            async with transaction():
                await tell(1)
                raise ZeroDivisionError
        assert await fetchval("select count(*) from core.event") == 0


class TestPositions:
    async def test_follow_the_commits_not_the_order_of_writing(self) -> None:
        relay = a_relay()
        late = Held(1, "early bird")
        await late.told.wait()
        await tell(2, subject="latecomer")
        await relay_all(relay)
        await late.commit()
        await relay_all(relay)
        rows = await fetch("select position, data->>'n' as n from core.event order by position")
        assert [tuple(row) for row in rows] == [(1, "2"), (2, "1")]

    async def test_keep_the_order_of_one_subject_within_a_batch(self) -> None:
        for n in range(20):
            await tell(n, subject=f"S-{n % 2}")
        await relay_all(a_relay())
        rows = await fetch("select (data->>'n')::int as n from core.event where subject = 'S-1' order by position")
        assert [row["n"] for row in rows] == list(range(1, 20, 2))

    async def test_have_no_gap_and_are_never_seen_out_of_turn_by_a_reader(self) -> None:
        """Three relays, writers that commit in any order, and a reader that asks for what is after its last."""
        rng = random.Random(7)
        relays = [spawn(a_relay(a_subscription()).run(), name=f"relay-{n}", pool="background") for n in range(3)]
        seen: list[int] = []
        total = 120

        async def read() -> None:
            while len(seen) < total:
                rows = await fetch(
                    "select position from core.event where position > $1 order by position", seen[-1] if seen else 0
                )
                seen.extend(row["position"] for row in rows)

        reader = spawn(read(), name="reader", pool="background")
        for first in range(0, total, 6):
            held = [Held(first + n, f"S-{first + n}") for n in range(6)]
            await asyncio.gather(*(each.told.wait() for each in held))
            rng.shuffle(held)
            for each in held:
                await each.commit()
                if rng.random() < 0.5:
                    poke(Channel.EVENTS)
        await reader
        for task in relays:
            task.cancel()
        await asyncio.wait(relays)
        assert seen == list(range(1, total + 1))
        assert await fetchval("select count(*) from core.delivery") == total

    async def test_are_given_by_one_relay_at_a_time(self) -> None:
        await tell()
        async with transaction():
            relay = a_relay()
            assert await relay.move_batch() == 1
            assert await spawn(a_relay().move_batch(), name="other", pool="background") is None


class TestDeliveries:
    async def test_are_written_once_for_each_subscription_that_wants_the_event(self) -> None:
        relay = a_relay(a_subscription("tst.one"), a_subscription("tst.two"), a_subscription("tst.x", pattern=("X_*",)))
        await tell(subject="S-9")
        await relay_all(relay)
        rows = await fetch("select subscription, state, ordering_key, position from core.delivery order by 1")
        assert [tuple(row) for row in rows] == [("tst.one", "pending", "S-9", 1), ("tst.two", "pending", "S-9", 1)]

    async def test_of_a_module_that_is_off_at_the_site_are_skipped_with_the_reason(self) -> None:
        await tell(site="bare")
        await relay_all(a_relay(a_subscription()))
        row = await fetchrow("select state, last_error, finished_at from core.delivery")
        assert row["state"] == "skipped"
        assert row["last_error"] == "the module tst is not enabled at bare"
        assert row["finished_at"] is not None

    async def test_that_the_database_refuses_become_dead_letters_and_stop_nobody_else(self) -> None:
        class Mapped:
            def match(self, event: StoredEvent) -> list[Match]:
                text = "\x00" if event.subject == "bad" else "fine"
                return [Match(subscription="route.r1", endpoint_id="e1", document={"text": text})]

        await tell(1, subject="good")
        await tell(2, subject="bad")
        await tell(3, subject="good")
        await relay_all(a_relay(a_subscription(), matchers=[Mapped()]))
        rows = await fetch(
            "select e.subject, d.state from core.delivery d join core.event e using (event_id) "
            "where d.subscription = 'route.r1' order by d.position"
        )
        assert [tuple(row) for row in rows] == [("good", "pending"), ("bad", "dead"), ("good", "pending")]
        reason = await fetchval("select last_error from core.delivery where state = 'dead'")
        assert reason.startswith("the database refuses what the mapping made: unsupported Unicode escape sequence")
        assert await fetchval("select count(*) from core.delivery where subscription = 'tst.reader'") == 3

    async def test_whose_document_is_not_json_become_dead_letters(self) -> None:
        class Odd:
            def match(self, event: StoredEvent) -> list[Match]:
                return [Match(subscription="route.r1", endpoint_id="e1", document={"value": object()})]

        await tell()
        await relay_all(a_relay(matchers=[Odd()]))
        row = await fetchrow("select state, last_error from core.delivery")
        assert row["state"] == "dead"
        assert row["last_error"].startswith("what the mapping made is not JSON")


class TestRun:
    async def test_goes_on_after_a_matcher_that_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("busbar.events.relay.POLL_S", 0.02)
        failed = asyncio.Event()

        class FailsOnce:
            def match(self, event: StoredEvent) -> list[Match]:
                if not failed.is_set():
                    failed.set()
                    raise LookupError("a fault of a matcher")
                return [Match(subscription="tst.late")]

        await tell()
        running = spawn(a_relay(matchers=[FailsOnce()]).run(), name="relay", pool="background")
        await failed.wait()
        async with asyncio.timeout(30):
            while not await fetchval("select count(*) from core.delivery where subscription = 'tst.late'"):
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
        assert await fetchval("select position from core.event") == 1
