"""The ledger against a real database: who may take a delivery, and whose outcome counts."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from busbar.db import execute, fetch, fetchrow, fetchval, spawn, transaction
from busbar.db.wakeup import Listener
from busbar.events import ledger
from busbar.events.ledger import Claimed, Outcome
from busbar.events.tests.facts import a_relay, a_subscription, tell
from busbar.kit.clock import utc_now

pytestmark = pytest.mark.usefixtures("database")

LANE = "tst.reader"


async def deliveries_for(*subjects: str, ordered: bool = True) -> None:
    """One delivery for each subject, in this order."""
    for n, subject in enumerate(subjects):
        await tell(n, subject=subject)
    await a_relay(a_subscription(LANE, ordered=ordered)).move_batch()


async def take(count: int = 100, *, worker: int = 1) -> list[Claimed]:
    return await ledger.claim({LANE: count}, worker=worker)


def subjects(claimed: list[Claimed]) -> list[str]:
    return [each.event.subject for each in claimed]


class TestClaim:
    async def test_takes_the_oldest_first_up_to_what_is_free(self) -> None:
        await deliveries_for("a", "b", "c")
        assert subjects(await take(2)) == ["a", "b"]
        assert subjects(await take(2)) == ["c"]

    async def test_takes_no_more_in_all_than_is_asked_for(self) -> None:
        for n in range(3):
            await tell(n, subject=f"s-{n}")
        await a_relay(a_subscription("tst.first"), a_subscription("tst.second")).move_batch()
        held = await ledger.claim({"tst.second": 3, "tst.first": 3}, worker=1, at_most=4)
        assert Counter(each.subscription for each in held) == {"tst.second": 3, "tst.first": 1}

    async def test_holds_the_next_of_the_same_key_back_until_the_first_is_finished(self) -> None:
        await deliveries_for("a", "a", "b")
        first, other = await take()
        assert (first.event.subject, other.event.subject) == ("a", "b")
        assert await take() == []
        await ledger.settle([(first, Outcome(state="delivered"))])
        assert subjects(await take()) == ["a"]

    async def test_holds_the_next_back_while_the_first_waits_for_its_retry(self) -> None:
        await deliveries_for("a", "a")
        (first,) = await take()
        later = utc_now() + timedelta(hours=1)
        await ledger.settle([(first, Outcome(state="retrying", detail="down", retry_at=later))])
        assert await take() == []

    async def test_lets_the_next_go_when_the_first_is_parked(self) -> None:
        await deliveries_for("a", "a")
        (first,) = await take()
        await ledger.settle([(first, Outcome(state="dead", detail="poison"))])
        (second,) = await take()
        assert second.event.position == 2

    async def test_takes_all_at_once_where_no_order_is_asked_for(self) -> None:
        await deliveries_for("a", "a", "a", ordered=False)
        assert len(await take()) == 3

    async def test_gives_a_delivery_to_one_of_many_workers_only(self) -> None:
        await deliveries_for(*(f"S-{n}" for n in range(200)))
        taken: list[int] = []

        async def work(worker: int) -> None:
            while batch := await take(7, worker=worker):
                taken.extend(each.delivery_id for each in batch)
                await ledger.settle([(each, Outcome(state="delivered")) for each in batch])

        await asyncio.gather(*(spawn(work(n), name=f"worker-{n}", pool="background") for n in range(1, 7)))
        # A worker that found everything locked gives up; what it left is still there to be taken.
        await work(9)
        assert Counter(taken).most_common(1)[0][1] == 1
        assert len(taken) == 200
        assert await ledger.open_count() == 0

    async def test_does_not_wait_for_what_another_worker_is_just_taking(self) -> None:
        await deliveries_for("a", "b")
        async with transaction():
            assert subjects(await take(1, worker=1)) == ["a"]
            async with asyncio.timeout(30):
                assert subjects(await spawn(take(worker=2), name="other", pool="background")) == ["b"]

    async def test_keeps_the_order_of_each_key_with_many_workers(self) -> None:
        await deliveries_for(*(f"S-{n % 5}" for n in range(100)))
        order: dict[str, list[int]] = {}

        async def work(worker: int) -> None:
            while await ledger.open_count():
                batch = await take(3, worker=worker)
                for each in batch:
                    order.setdefault(each.event.subject, []).append(each.event.position or 0)
                await ledger.settle([(each, Outcome(state="delivered")) for each in batch])

        await asyncio.gather(*(spawn(work(n), name=f"worker-{n}", pool="background") for n in range(1, 5)))
        assert sum(len(positions) for positions in order.values()) == 100
        assert all(positions == sorted(positions) for positions in order.values())


class TestSettle:
    async def test_writes_the_outcome_and_keeps_the_attempt(self) -> None:
        await deliveries_for("a")
        (held,) = await take(worker=77)
        assert await ledger.settle([(held, Outcome(state="delivered", remote_id="INC1"))]) == {held.delivery_id}
        row = await fetchrow("select state, remote_id, attempts, worker, finished_at from core.delivery")
        assert (row["state"], row["remote_id"], row["attempts"], row["worker"]) == ("delivered", "INC1", 1, None)
        assert row["finished_at"] is not None
        told = await fetchrow("select attempt, outcome, worker from core.delivery_attempt")
        assert tuple(told) == (1, "delivered", 77)

    async def test_refuses_the_outcome_of_a_worker_whose_attempt_was_taken_over(self) -> None:
        await deliveries_for("a")
        (zombie,) = await take(worker=1)
        await execute("update core.delivery set lease_until = now() - interval '1 s'")
        assert await ledger.take_over(set()) == 1
        (held,) = await take(worker=2)
        assert held.attempt == 2
        assert await ledger.settle([(zombie, Outcome(state="dead", detail="too late"))]) == set()
        assert await ledger.settle([(held, Outcome(state="delivered"))]) == {held.delivery_id}
        assert await fetchval("select state from core.delivery") == "delivered"

    async def test_refuses_a_zombie_of_the_same_worker_too(self) -> None:
        await deliveries_for("a")
        (zombie,) = await take(worker=1)
        await ledger.release(1)
        (held,) = await take(worker=1)
        assert await ledger.settle([(zombie, Outcome(state="delivered"))]) == set()
        assert await ledger.settle([(held, Outcome(state="delivered"))]) == {held.delivery_id}

    async def test_counts_only_the_attempts_that_are_charged(self) -> None:
        await deliveries_for("a")
        for charge in (True, False, True):
            (held,) = await take()
            await ledger.settle([(held, Outcome(state="retrying", charge=charge, retry_at=utc_now()))])
        row = await fetchrow("select attempts, charged from core.delivery")
        assert tuple(row) == (3, 2)


class TestTakeOver:
    async def test_gives_back_what_a_dead_process_held_and_notes_the_lost_attempt(self, database: str) -> None:
        listener = Listener(database, worker=11)
        await listener.start()
        await deliveries_for("a", "b")
        await take(1, worker=11)
        await take(1, worker=12)  # a process that never came up, or is gone
        assert await ledger.suspects() == {12}
        assert await ledger.take_over({12}) == 1
        rows = await fetch("select state, last_error from core.delivery order by position")
        assert [row["state"] for row in rows] == ["in_flight", "retrying"]
        assert rows[1]["last_error"] == "the worker was lost during the attempt"
        assert tuple(await fetchrow("select attempt, outcome, worker from core.delivery_attempt")) == (1, "lost", 12)
        await listener.stop()
        async with asyncio.timeout(30):
            while await ledger.suspects() != {11}:
                await asyncio.sleep(0.01)

    async def test_leaves_a_living_worker_its_attempts_even_when_it_is_suspected(self, database: str) -> None:
        listener = Listener(database, worker=11)
        await listener.start()
        await deliveries_for("a")
        await take(worker=11)
        assert await ledger.take_over({11}) == 0
        await listener.stop()


class TestRelease:
    async def test_gives_back_uncharged_what_a_stopping_worker_holds(self) -> None:
        await deliveries_for("a", "b")
        await take(1, worker=1)
        await take(1, worker=2)
        await ledger.release(1)
        rows = await fetch("select state, charged from core.delivery order by position")
        assert [tuple(row) for row in rows] == [("retrying", 0), ("in_flight", 0)]
        assert await fetchval("select outcome from core.delivery_attempt") == "given_back"
