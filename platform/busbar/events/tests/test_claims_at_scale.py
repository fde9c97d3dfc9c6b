"""A backlog must not make each claim read all of it, whatever the planner believed when nothing waited."""

from collections.abc import Sequence
from uuid import UUID

import pytest

from busbar.db import execute, fetch
from busbar.events import ledger
from busbar.events.tests.facts import rows_read

NAME = "tst.reader"
BACKLOG = 5_000
KEYS = 500
FREE = 16
READ_FOR_EACH_MAX = 10
"""Rows of the ledger that one claimed delivery may cost: itself, the first of its key, itself again for the update."""

_EVENTS = """
insert into core.event (event_id, event_type, module, site_id, subject, time, data, schema_version, correlation_id,
    actor_id, position)
select gen_random_uuid(), 'TST_FACT', 'tst', 'north', 'S-' || n % $3::int, now(), '{"n": 1}', 1, 'c', 'a', $1::int + n
from generate_series(1, $2::int) n
"""
_DELIVERIES = """
insert into core.delivery (event_id, position, subscription, site_id, ordering_key, state, next_attempt_at, created_at,
    updated_at, finished_at)
select event_id, position, $1, site_id, subject, $2, now() - interval '1 hour', now(), now(),
    case when $2 = 'delivered' then now() end
from core.event where position > $3
"""


@pytest.fixture
async def backlog(database: str) -> Sequence[UUID]:
    """Deliveries that came after the planner last looked, when all there were had been delivered; their events."""
    await execute(_EVENTS, 0, 2_000, KEYS)
    await execute(_DELIVERIES, NAME, "delivered", 0)
    await execute("analyze core.delivery")
    await execute("analyze core.event")
    await execute(_EVENTS, 2_000, BACKLOG, KEYS)
    await execute(_DELIVERIES, NAME, "pending", 2_000)
    return [row["event_id"] for row in await fetch("select event_id from core.event where position > 2000 order by 1")]


class TestABacklog:
    async def test_claiming_what_is_due_reads_little(self, backlog: Sequence[UUID]) -> None:
        claimed: list[ledger.Claimed] = []

        async def claim() -> None:
            claimed.extend(await ledger.claim({NAME: FREE}, worker=1))

        for _ in range(3):
            assert await rows_read(claim) <= FREE * READ_FOR_EACH_MAX
        assert [held.event.position for held in claimed] == list(range(2_001, 2_001 + 3 * FREE))

    async def test_claiming_what_messages_tell_of_reads_little(self, backlog: Sequence[UUID]) -> None:
        first = [row["event_id"] for row in await fetch(_FIRST, FREE)]
        claimed: list[ledger.Claimed] = []

        async def claim() -> None:
            claimed.extend(await ledger.claim_told([(NAME, event_id) for event_id in first], worker=1))

        assert await rows_read(claim) <= FREE * READ_FOR_EACH_MAX
        assert [held.event.event_id for held in claimed] == first

    async def test_asking_which_of_them_wait_for_their_key_reads_little(self, backlog: Sequence[UUID]) -> None:
        async def ask() -> None:
            assert await ledger.waiting_keys([(NAME, event_id) for event_id in backlog[:FREE]])

        assert await rows_read(ask) <= FREE * READ_FOR_EACH_MAX

    async def test_claiming_the_next_of_a_key_reads_little(self, backlog: Sequence[UUID]) -> None:
        keys = [(NAME, f"S-{n}") for n in range(1, FREE + 1)]
        claimed: list[ledger.Claimed] = []

        async def claim() -> None:
            claimed.extend(await ledger.claim_next(keys, worker=1))

        assert await rows_read(claim) <= FREE * READ_FOR_EACH_MAX
        assert [(held.subscription, held.ordering_key) for held in claimed] == keys

    async def test_asking_which_keys_are_open_reads_little(self, backlog: Sequence[UUID]) -> None:
        keys = [(NAME, f"S-{n}") for n in range(1, FREE + 1)]

        async def ask() -> None:
            assert await ledger.open_keys(keys) == set(keys)

        assert await rows_read(ask) <= FREE * READ_FOR_EACH_MAX

    async def test_settling_and_handing_over_reads_little(self, backlog: Sequence[UUID]) -> None:
        held = await ledger.claim({NAME: 2 * FREE}, worker=1)

        async def settle() -> None:
            outcomes = [(each, ledger.Outcome(state="delivered")) for each in held[:FREE]]
            assert len(await ledger.settle(outcomes)) == FREE

        async def hand_over() -> None:
            assert len(await ledger.hand_over(held[FREE:])) == FREE

        async def ask() -> None:
            assert len(await ledger.handed_over([(each.delivery_id, each.attempt) for each in held[FREE:]])) == FREE

        assert await rows_read(settle) <= FREE * READ_FOR_EACH_MAX
        assert await rows_read(hand_over) <= FREE * READ_FOR_EACH_MAX
        assert await rows_read(ask) <= FREE * READ_FOR_EACH_MAX

    async def test_looking_for_risky_ones_reads_little(self, backlog: Sequence[UUID]) -> None:
        async def look() -> None:
            assert not await ledger.has_risky([NAME])
            assert await ledger.claim_risky([NAME], worker=1) is None

        assert await rows_read(look) <= FREE


_FIRST = "select event_id from core.event where position > 2000 order by position limit $1"
