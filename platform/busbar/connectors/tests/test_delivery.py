"""Deliveries against a remote that answers, fails, limits and disappears."""

import asyncio
import time

import msgspec
import pytest
from structlog.testing import capture_logs

from busbar.connectors import commands
from busbar.connectors.breaker import BreakerState
from busbar.connectors.commands import Changes
from busbar.connectors.contract import Attempt, Connector, DeliveryClass, Endpoint, Receipt, Retryable
from busbar.connectors.desk import EndpointDesk, breaker_readings
from busbar.connectors.secrets import Secret
from busbar.connectors.shared_breaker import SharedBreaker
from busbar.connectors.tests import support
from busbar.connectors.tests.support import (
    ACME,
    CANARY,
    SUBSCRIPTION,
    Remote,
    add_deliveries,
    all_delivered,
    breaker,
    context,
    make_desk,
    state_of,
    states,
    until,
    working,
)
from busbar.db import execute, fetch, fetchval, spawn, transaction
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
            trying = spawn(desk.lane("acme-1").attempt(held), name="attempt", pool="background")  # type: ignore[arg-type]

            async def waits() -> bool:
                return await fetchval("select exists (select 1 from pg_stat_activity where wait_event_type = 'Lock')")

            await until(waits)
        outcome = await trying
        assert outcome.state == "delivered"
        assert (await breaker())["phase"] == "closed"


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


class TestSeveralProcesses:
    async def test_send_one_probe_between_them(self, desk: EndpointDesk, remote: Remote) -> None:
        other = make_desk()
        await add_deliveries(*[f"T-{number}" for number in range(6)])
        state = BreakerState(phase="open", reason="failures", generation=1, openings=1)
        await execute("update core.endpoint set breaker = $1::jsonb", msgspec.json.encode(state).decode())
        await desk.refresh()
        await other.refresh()
        remote.hold = asyncio.Event()
        try:
            # Both believe that a probe is due, and both have taken a delivery for it.
            assert (desk.lane("acme-1").free(0), other.lane("acme-1").free(0)) == (1, 1)
            async with working(desk, number=1), working(other, number=2):
                await asyncio.wait_for(remote.held.wait(), 5)

                async def both_know() -> bool:
                    return desk.lane("acme-1").free(0) == 0 and other.lane("acme-1").free(0) == 0

                await until(both_know)
                await until(lambda: _one_in_flight())
                assert len(remote.requests) == 1
                remote.hold.set()
                await all_delivered(6)
        finally:
            await other.close()
        assert sorted(len(events) for events in remote.records.values()) == [1] * 6

    async def test_do_not_fall_back_to_what_they_read_before_a_change(self, desk: EndpointDesk) -> None:
        shared = SharedBreaker("acme-1", clock=support.utc_now, policy=support.QUICK)
        read_before = await fetchval("select breaker from core.endpoint")
        for _ in range(3):
            await shared.failed(Retryable("away"), generation=0)
        assert shared.state.phase == "open"
        assert not shared.learn(read_before, version=1)
        assert shared.state.phase == "open"
        await commands.resume_endpoint(context(), "acme-1")
        assert shared.learn(await fetchval("select breaker from core.endpoint"), version=1)
        assert shared.forecast().allowed

    async def test_learn_of_new_settings_before_their_next_attempt(self, desk: EndpointDesk, remote: Remote) -> None:
        other = make_desk()
        await other.refresh()
        remote.token = "a fresh one"
        changes = Changes(secrets={"token": Secret("a fresh one")})
        await commands.change_endpoint(context(), desk, "acme-1", changes)
        await add_deliveries("T-1")
        (held,) = await ledger.claim({SUBSCRIPTION: 1}, worker=2)
        outcome = await other.lane("acme-1").attempt(held)
        await other.close()
        assert outcome is not None and outcome.state == "delivered"


async def _one_in_flight() -> bool:
    return (await states()).get("in_flight") == 1


class TestALane:
    async def test_takes_nothing_for_an_endpoint_that_is_unknown_off_or_camels(
        self, desk: EndpointDesk, remote: Remote
    ) -> None:
        lane = desk.lane("acme-1")
        assert lane.free(0) == 8
        assert lane.free(5) == 3
        assert desk.lane("unknown").free(0) == 0
        await commands.change_endpoint(context(), desk, "acme-1", Changes(runner="camel"))
        await desk.refresh()
        assert lane.free(0) == 0
        await commands.change_endpoint(context(), desk, "acme-1", Changes(runner="busbar", active=False))
        await desk.refresh()
        assert lane.free(0) == 0
        await commands.change_endpoint(context(), desk, "acme-1", Changes(active=True))
        await desk.refresh()
        assert lane.free(0) == 8

    async def test_takes_nothing_while_its_plugin_is_quarantined(self, desk: EndpointDesk) -> None:
        quarantined = {"acme"}
        other = make_desk(quarantined=quarantined.__contains__)
        await other.refresh()
        assert other.lane("acme-1").free(0) == 0
        quarantined.clear()
        assert other.lane("acme-1").free(0) == 8
        await other.close()

    async def test_takes_nothing_when_the_stored_settings_no_longer_fit(self, desk: EndpointDesk) -> None:
        await execute("update core.endpoint set settings = '{}', version = version + 1")
        await desk.refresh()
        assert desk.lane("acme-1").free(0) == 0
        endpoint = desk.get("acme-1")
        assert endpoint is not None and endpoint.fault is not None
        assert "base_url" in endpoint.fault

    async def test_gives_back_unused_what_it_may_not_send(self, desk: EndpointDesk, remote: Remote) -> None:
        await add_deliveries("T-1")
        (held,) = await ledger.claim({SUBSCRIPTION: 1}, worker=1)
        await commands.change_endpoint(context(), desk, "acme-1", Changes(active=False))
        outcome = await desk.lane("acme-1").attempt(held)
        assert outcome is not None
        assert (outcome.state, outcome.charge) == ("pending", False)
        await ledger.settle([(held, outcome)])
        await commands.change_endpoint(context(), desk, "acme-1", Changes(active=True))
        await desk.refresh()
        async with working(desk):
            await all_delivered(1)
        assert [(attempt.number, attempt.first) for attempt in support.ATTEMPTS] == [(2, True)]


class TestAChangeDuringAnAttempt:
    async def test_lets_it_end_with_the_old_session_which_then_closes(self, desk: EndpointDesk, remote: Remote) -> None:
        remote.hold = asyncio.Event()
        await add_deliveries("T-1")
        before = desk.get("acme-1")
        assert before is not None
        async with before.in_use() as seen:
            old_session = seen.http
        async with working(desk):
            await asyncio.wait_for(remote.held.wait(), 5)
            await commands.change_endpoint(context(), desk, "acme-1", Changes(name="New name"))
            await desk.refresh()
            assert desk.get("acme-1") is not before
            assert not old_session.closed
            remote.hold.set()
            await all_delivered(1)
        assert old_session.closed
        assert remote.requests == ["T-1"]


class TestAFaultyConnector:
    async def test_is_tried_again_and_its_secret_stays_out_of_log_and_ledger(
        self, desk: EndpointDesk, remote: Remote
    ) -> None:
        await add_deliveries("leaky")
        with capture_logs() as lines:
            (held,) = await ledger.claim({SUBSCRIPTION: 1}, worker=1)
            outcome = await desk.lane("acme-1").attempt(held)
            assert outcome is not None
            await ledger.settle([(held, outcome)])
        assert outcome.state == "retrying"
        assert outcome.charge
        assert outcome.detail is not None and outcome.detail.startswith("The connector failed: RuntimeError")
        assert any("RuntimeError" in line.get("cause", "") for line in lines)
        stored = await fetchval("select string_agg(d::text, '') from core.delivery d")
        stored += await fetchval("select string_agg(d::text, '') from core.delivery_attempt d")
        for place in (outcome.detail, stored, *(repr(line) for line in lines)):
            assert CANARY not in place
            assert "no one may ever see" not in place

    @pytest.mark.parametrize("answer", [None, "REM-1", Receipt(remote_id=None)])  # type: ignore[arg-type]
    async def test_that_returns_no_receipt_has_delivered_nothing(self, desk: EndpointDesk, answer: object) -> None:
        async def deliver(endpoint: Endpoint, attempt: Attempt) -> Receipt:
            return answer  # type: ignore[return-value]

        other = make_desk(connector=msgspec.structs.replace(ACME, deliver=deliver))
        await other.refresh()
        await add_deliveries("T-1")
        (held,) = await ledger.claim({SUBSCRIPTION: 1}, worker=1)
        outcome = await other.lane("acme-1").attempt(held)
        await other.close()
        assert outcome is not None
        assert (outcome.state, outcome.charge) == ("retrying", True)
        assert outcome.detail is not None and outcome.detail.startswith("The connector failed")

    async def test_may_answer_with_characters_that_the_database_refuses(self, desk: EndpointDesk) -> None:
        async def deliver(endpoint: Endpoint, attempt: Attempt) -> Receipt:
            return Receipt(remote_id="REM\x00-1", detail="a\x00b\ud800c" + "x" * 2_000)

        other = make_desk(connector=msgspec.structs.replace(ACME, deliver=deliver))
        await other.refresh()
        await add_deliveries("T-1")
        async with working(other):
            await all_delivered(1)
        await other.close()
        assert (await state_of("T-1"))["remote_id"] == "REM-1"

    async def test_of_class_c_has_possible_duplicates_flagged(self, desk: EndpointDesk) -> None:
        connector: Connector = msgspec.structs.replace(ACME, delivery_class=DeliveryClass.C)
        other = make_desk(connector=connector)
        await other.refresh()
        await add_deliveries("T-1")
        (held,) = await ledger.claim({SUBSCRIPTION: 1}, worker=7)
        await other.lane("acme-1").attempt(held)
        await ledger.take_over({7})
        (held,) = await ledger.claim({SUBSCRIPTION: 1}, worker=8)
        outcome = await other.lane("acme-1").attempt(held)
        await other.close()
        assert outcome is not None and outcome.detail is not None
        assert outcome.detail.startswith("Possible duplicate")
