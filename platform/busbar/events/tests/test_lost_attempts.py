"""What the ledger makes of attempts whose worker is lost: tried again, then alone, and parked in the end."""

import pytest

from busbar.db import execute, fetch, fetchrow, fetchval
from busbar.events import ledger
from busbar.events.ledger import Claimed, Outcome
from busbar.events.ledger_statements import LOST_MAX, RISKY_LOST
from busbar.events.tests.facts import a_relay, a_subscription, tell

pytestmark = pytest.mark.usefixtures("database")

LANE = "tst.reader"


async def deliveries_for(*subjects: str) -> None:
    """One delivery for each subject, in this order."""
    for n, subject in enumerate(subjects):
        await tell(n, subject=subject)
    await a_relay(a_subscription(LANE)).move_batch()


async def take() -> list[Claimed]:
    """Whatever a worker takes beside other work."""
    return await ledger.claim({LANE: 10}, worker=1)


async def take_alone() -> Claimed | None:
    """What a worker takes when it has nothing else; the waits after a loss are over."""
    await execute("update core.delivery set next_attempt_at = now()")
    return await ledger.claim_risky([LANE], worker=1)


async def lose() -> None:
    """The worker is gone."""
    await execute("update core.delivery set lease_until = now() - interval '1 s' where state = 'in_flight'")
    assert await ledger.take_over(set()) > 0


async def lose_twice() -> None:
    for _ in range(RISKY_LOST):
        assert len(await take()) > 0
        await lose()


class TestADeliveryThatLosesItsWorker:
    async def test_is_tried_again_at_once_after_the_first_time(self) -> None:
        await deliveries_for("a")
        await take()
        await lose()
        assert [held.attempt for held in await take()] == [2]

    async def test_is_left_for_a_worker_that_has_nothing_else_after_the_second_time(self) -> None:
        await deliveries_for("a", "b")
        await lose_twice()
        await execute("update core.delivery set next_attempt_at = now()")
        assert await take() == []
        assert await ledger.has_risky([LANE])
        assert not await ledger.has_risky(["tst.other"])
        first, second, third = [await take_alone() for _ in range(3)]
        assert first is not None and second is not None
        assert (first.event.subject, second.event.subject, third) == ("a", "b", None)
        assert not await ledger.has_risky([LANE])

    async def test_waits_a_little_longer_after_each_time(self) -> None:
        await deliveries_for("a")
        waits = []
        for n in range(LOST_MAX - 1):
            assert await take() if n < RISKY_LOST else await take_alone()
            await lose()
            waits.append(
                await fetchval("select extract(epoch from next_attempt_at - updated_at)::int from core.delivery")
            )
        assert waits == [0, 2, 4, 6]

    async def test_is_parked_with_a_sentence_after_the_fifth_time_and_lets_the_next_of_its_key_go(self) -> None:
        await deliveries_for("a", "a")
        await lose_twice()
        for _ in range(LOST_MAX - RISKY_LOST):
            assert await take_alone() is not None
            await lose()
        dead, waiting = await fetch("select * from core.delivery order by position")
        assert (dead["state"], dead["attempts"], waiting["state"]) == ("dead", 5, "pending")
        assert dead["finished_at"] is not None
        assert dead["last_error"] == (
            "the worker was lost during the attempt, 5 times in a row, lately with nothing else at work: "
            "it seems to end the process, see the end of its log"
        )
        told = await fetch("select outcome, detail from core.delivery_attempt order by attempt")
        assert [row["outcome"] for row in told] == ["lost"] * 5
        assert told[-1]["detail"] == dead["last_error"]
        assert [held.event.position for held in await take()] == [2]

    async def test_is_tried_alone_when_it_is_replayed_and_parked_after_one_more_time(self) -> None:
        await deliveries_for("a")
        await execute("update core.delivery set state = 'pending', lost = 5")
        assert await take() == []
        assert await take_alone() is not None
        await lose()
        row = await fetchrow("select state, lost from core.delivery")
        assert tuple(row) == ("dead", 6)


class TestTheCountOfLostAttempts:
    @pytest.mark.parametrize("state", ["retrying", "delivered", "dead", "skipped"])
    async def test_starts_anew_with_an_attempt_that_ends(self, state: str) -> None:
        await deliveries_for("a")
        await lose_twice()
        held = await take_alone()
        assert held is not None
        await ledger.settle([(held, Outcome(state=state, detail="said"))])
        assert await fetchval("select lost from core.delivery") == 0

    async def test_stays_when_nothing_was_tried(self) -> None:
        await deliveries_for("a")
        await lose_twice()
        held = await take_alone()
        assert held is not None
        await ledger.settle([(held, Outcome(state="pending", detail="The endpoint is paused.", charge=False))])
        assert await fetchval("select lost from core.delivery") == 2

    async def test_does_not_grow_when_a_worker_stops_in_order(self) -> None:
        await deliveries_for("a")
        await lose_twice()
        assert await take_alone() is not None
        await ledger.release(1)
        row = await fetchrow("select lost, state, next_attempt_at <= now() as due from core.delivery")
        assert tuple(row) == (2, "retrying", True)

    async def test_does_not_grow_when_another_runner_says_nothing(self) -> None:
        await deliveries_for("a")
        for _ in range(LOST_MAX + 1):
            held = await take()
            await ledger.hand_over(held)
            await lose()
        row = await fetchrow("select lost, state, last_error from core.delivery")
        assert tuple(row) == (0, "retrying", "Camel sent no outcome in time")
