"""Deliveries against a remote that answers, fails, limits and disappears."""

import asyncio
import time

import msgspec

from busbar.connectors import commands
from busbar.connectors.breaker import BreakerState
from busbar.connectors.commands import Changes
from busbar.connectors.desk import EndpointDesk, breaker_readings
from busbar.connectors.secrets import Secret
from busbar.connectors.tests import support
from busbar.connectors.tests.support import (
    SUBSCRIPTION,
    Remote,
    add_deliveries,
    all_delivered,
    breaker,
    context,
    state_of,
    states,
    until,
    working,
)
from busbar.db import execute, fetch, fetchrow, fetchval, spawn, transaction
from busbar.db.wakeup import Channel, poke
from busbar.events import ledger


async def opened() -> bool:
    return (await breaker()).get("phase") == "open"


class TestAWellRemote:
    async def test_gets_every_event_once_and_its_id_is_remembered(self, desk: EndpointDesk, remote: Remote) -> None:
        ids = await add_deliveries("T-1", "T-2", "T-1")
        async with working(desk):
            await all_delivered(3)
        assert remote.records == {"T-1": [str(ids[0]), str(ids[2])], "T-2": [str(ids[1])]}
        rows = await fetch("select subject, remote_id, marker from core.remote_reference order by subject")
        assert [tuple(row) for row in rows] == [("T-1", "REM-T-1", "2"), ("T-2", "REM-T-2", "1")]
        assert await fetchval("select count(*) from core.delivery where remote_id = 'REM-T-1'") == 2

    async def test_is_told_the_id_that_an_earlier_delivery_learnt(self, desk: EndpointDesk, remote: Remote) -> None:
        await add_deliveries("T-1", "T-1")
        async with working(desk):
            await all_delivered(2)
        assert [attempt.remote_id for attempt in support.ATTEMPTS] == [None, "REM-T-1"]
        assert [attempt.first for attempt in support.ATTEMPTS] == [True, True]

    async def test_leaves_the_breaker_untouched(self, desk: EndpointDesk, remote: Remote) -> None:
        await add_deliveries("T-1", "T-2")
        async with working(desk):
            await all_delivered(2)
        assert await fetchval("select breaker is null from core.endpoint")

    async def test_gets_no_second_record_when_the_outcome_was_lost(self, desk: EndpointDesk, remote: Remote) -> None:
        await add_deliveries("T-1")
        (held,) = await ledger.claim({SUBSCRIPTION: 1}, worker=7)
        lane = desk.lane("acme-1")
        outcome = await lane.attempt(held)
        assert outcome is not None and outcome.state == "delivered"
        # The process dies here: what the remote did is known nowhere in the ledger.
        await ledger.take_over({7})
        async with working(desk):
            await all_delivered(1)
        assert [len(events) for events in remote.records.values()] == [1]
        assert [attempt.first for attempt in support.ATTEMPTS] == [True, False]
        assert support.ATTEMPTS[1].remote_id == "REM-T-1"
        assert support.ATTEMPTS[0].delivery_id == support.ATTEMPTS[1].delivery_id


class TestAnOutage:
    async def test_pauses_the_endpoint_kills_nothing_and_drains_in_order(
        self, desk: EndpointDesk, remote: Remote
    ) -> None:
        await remote.stop()
        subjects = [f"T-{number:02}" for number in range(12)]
        await add_deliveries(*subjects)
        async with working(desk):
            await until(opened)
            # Several probes fail, and still no delivery pays for more than the attempts before the pause.
            openings = (await breaker())["openings"]

            async def probed_more() -> bool:
                return (await breaker())["openings"] >= openings + 5

            await until(probed_more)
            assert await fetchval("select max(charged) from core.delivery") <= 2
            assert (await states()).get("dead") is None
            await remote.start()
            await all_delivered(12)
        assert sorted(remote.records) == subjects
        assert (await breaker())["phase"] == "closed"

    async def test_delivers_each_subjects_events_in_their_order(self, desk: EndpointDesk, remote: Remote) -> None:
        await remote.stop()
        ids = await add_deliveries("T-1", "T-2", "T-1", "T-1", "T-2")
        async with working(desk):
            await until(opened)
            await remote.start()
            await all_delivered(5)
        assert remote.records["T-1"] == [str(ids[0]), str(ids[2]), str(ids[3])]
        assert remote.records["T-2"] == [str(ids[1]), str(ids[4])]

    async def test_ends_at_once_when_an_operator_resumes(self, desk: EndpointDesk, remote: Remote) -> None:
        await remote.stop()
        await add_deliveries("T-1")
        async with working(desk):
            await until(opened)
            await remote.start()
            far = BreakerState(phase="open", reason="failures", until=support.utc_now().replace(year=2099))
            later = msgspec.structs.replace(far, generation=10_000)
            await execute("update core.endpoint set breaker = $1::jsonb", msgspec.json.encode(later).decode())
            await execute("update core.delivery set next_attempt_at = now() + interval '1 hour'")
            poke(Channel.CONFIG)
            await asyncio.sleep(0.2)
            assert remote.records == {}
            await commands.resume_endpoint(context(), "acme-1")
            await all_delivered(1)

    async def test_shows_in_the_metrics(self, desk: EndpointDesk, remote: Remote) -> None:
        assert [reading.value for reading in await breaker_readings()] == [0.0]
        await remote.stop()
        await add_deliveries("T-1", "T-2", "T-3")
        async with working(desk):
            await until(opened)
        (reading,) = await breaker_readings()
        assert reading.value > 0
        assert reading.labels == {"endpoint": "acme-1"}


class TestAQuota:
    async def test_pauses_until_it_returns_and_costs_no_attempt(self, desk: EndpointDesk, remote: Remote) -> None:
        remote.limited_until = time.time() + 1.5
        ids = await add_deliveries(*[f"T-{number}" for number in range(20)])
        async with working(desk):
            await until(opened)
            assert (await breaker())["reason"] == "rate_limited"
            asked = len(remote.requests)
            assert asked <= 8
            await all_delivered(20)
        assert sum(len(events) for events in remote.records.values()) == len(ids)
        assert await fetchval("select max(charged) from core.delivery") == 1


class TestExpiredCredentials:
    async def test_pause_the_endpoint_until_somebody_enters_new_ones(self, desk: EndpointDesk, remote: Remote) -> None:
        remote.token = "a fresh one"
        await add_deliveries("T-1", "T-2")
        async with working(desk):
            await until(opened)
            assert (await breaker())["reason"] == "auth_expired"
            assert (await states()).get("dead") is None
            await commands.change_endpoint(context(), desk, "acme-1", Changes(secrets={"token": Secret("a fresh one")}))
            await all_delivered(2)
        assert await fetchval("select max(charged) from core.delivery") == 1

    async def test_are_not_tried_by_an_attempt_that_was_let_in_after_the_change(
        self, desk: EndpointDesk, remote: Remote
    ) -> None:
        state = BreakerState(phase="open", reason="auth_expired", generation=1)
        await execute("update core.endpoint set breaker = $1::jsonb", msgspec.json.encode(state).decode())
        remote.token = "a fresh one"
        await add_deliveries("T-1")
        (held,) = await ledger.claim({SUBSCRIPTION: 1}, worker=1)
        async with transaction():
            changes = Changes(secrets={"token": Secret("a fresh one")})
            await commands.change_endpoint(context(), desk, "acme-1", changes)
            # It has read the old settings, and waits for the row to learn whether it may start.
            trying = spawn(desk.lane("acme-1").attempt(held), name="attempt", pool="background")

            async def waits() -> bool:
                return await fetchval("select exists (select 1 from pg_stat_activity where wait_event_type = 'Lock')")

            await until(waits)
        outcome = await trying
        assert outcome.state == "delivered"
        assert (await breaker())["phase"] == "closed"


class TestAnEventThatMeansNothingToTheRemote:
    async def test_is_skipped_with_the_reason_and_holds_nothing_up(self, desk: EndpointDesk, remote: Remote) -> None:
        await add_deliveries("idle-1", "T-1")
        async with working(desk):
            await all_delivered(1, skipped=1)
        row = await fetchrow("select * from core.delivery join core.event using (event_id) where subject = 'idle-1'")
        assert (row["state"], row["last_error"], row["charged"]) == ("skipped", "Acme keeps no such records.", 0)
        assert row["finished_at"] is not None
        assert remote.requests == ["T-1"]

    async def test_does_not_end_an_outage(self, desk: EndpointDesk, remote: Remote) -> None:
        await remote.stop()
        await add_deliveries("T-1", *[f"idle-{n}" for n in range(20)], "T-2")
        async with working(desk):
            await until(opened)
            await asyncio.sleep(0.5)
            assert (await breaker())["phase"] != "closed"
            await remote.start()
            await all_delivered(2, skipped=20)
        assert sorted(remote.records) == ["T-1", "T-2"]


class TestAPoisonMessage:
    async def test_is_parked_while_good_traffic_flows(self, desk: EndpointDesk, remote: Remote) -> None:
        remote.poison = {"BAD"}
        await add_deliveries("BAD", *[f"T-{number}" for number in range(5)])
        fed = 5
        async with working(desk):

            async def parked() -> bool:
                nonlocal fed
                await add_deliveries(f"T-{fed}")
                fed += 1
                return (await states()).get("dead") == 1

            await until(parked)
            await until(lambda: _all_but_one(fed))
        assert sorted(remote.records) == sorted(f"T-{number}" for number in range(fed))
        bad = await state_of("BAD")
        assert bad["charged"] == 4
        assert bad["last_error"] == "The remote answered 500."

    async def test_does_not_keep_the_probe_for_itself(self, desk: EndpointDesk, remote: Remote) -> None:
        remote.poison = {"BAD"}
        await add_deliveries("BAD")
        # As after an outage: open, the poison is the oldest and due, good traffic waits behind it.
        await execute(
            "update core.endpoint set breaker = $1::jsonb",
            msgspec.json.encode(BreakerState(phase="open", reason="failures", generation=1, openings=1)).decode(),
        )
        await add_deliveries("T-1")
        await desk.refresh()
        async with working(desk):

            async def good_one_passed() -> bool:
                return "T-1" in remote.records

            await until(good_one_passed)
        assert remote.requests[:2] == ["BAD", "T-1"]

    async def test_that_the_remote_refuses_for_good_is_dead_at_once(self, desk: EndpointDesk, remote: Remote) -> None:
        remote.refused = {"BAD"}
        await add_deliveries("BAD", "T-1")
        async with working(desk):
            await until(lambda: _all_but_one(1))
        assert remote.requests.count("BAD") == 1
        assert (await breaker()).get("phase", "closed") == "closed"


async def _all_but_one(count: int) -> bool:
    return await states() == {"delivered": count, "dead": 1}
