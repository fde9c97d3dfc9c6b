"""A lane: what it takes for its endpoint, beside other processes, during changes, and with a faulty connector."""

import asyncio

import msgspec
import pytest
from structlog.testing import capture_logs

from busbar.connectors import commands
from busbar.connectors.breaker import BreakerState
from busbar.connectors.commands import Changes
from busbar.connectors.contract import Attempt, Connector, DeliveryClass, Endpoint, Receipt, Retryable
from busbar.connectors.desk import EndpointDesk
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
    context,
    make_desk,
    state_of,
    states,
    until,
    working,
)
from busbar.db import execute, fetchval
from busbar.events import ledger
from busbar.events.ledger import Outcome
from busbar.kit.clock import utc_now


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
        desk.brokered = True
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

    @pytest.mark.parametrize("uncertain", [False, True])
    async def test_of_class_c_is_flagged_only_when_the_remote_may_have_had_it(
        self, desk: EndpointDesk, uncertain: bool
    ) -> None:
        async def deliver(endpoint: Endpoint, attempt: Attempt) -> Receipt:
            if attempt.number == 1:
                raise Retryable("It was down.", uncertain=uncertain)
            return Receipt(remote_id="REM-1")

        other = make_desk(connector=msgspec.structs.replace(ACME, delivery_class=DeliveryClass.C, deliver=deliver))
        await other.refresh()
        await add_deliveries("T-1")
        assert (await attempted(other)).state == "retrying"
        outcome = await attempted(other)
        await other.close()
        warning = "Possible duplicate: an earlier attempt ended without an answer."
        assert (outcome.state, outcome.detail) == ("delivered", warning if uncertain else None)

    async def test_of_class_c_is_not_flagged_where_the_remote_is_known_to_keep_our_key(
        self, desk: EndpointDesk
    ) -> None:
        async def deliver(endpoint: Endpoint, attempt: Attempt) -> Receipt:
            return Receipt(remote_id="REM-1", once=True)

        connector = msgspec.structs.replace(ACME, delivery_class=DeliveryClass.C, deliver=deliver)
        other = make_desk(connector=connector)
        await other.refresh()
        await add_deliveries("T-1")
        (held,) = await ledger.claim({SUBSCRIPTION: 1}, worker=7)
        await other.lane("acme-1").attempt(held)
        await ledger.take_over({7})
        (held,) = await ledger.claim({SUBSCRIPTION: 1}, worker=8)
        outcome = await other.lane("acme-1").attempt(held)
        await other.close()
        assert outcome is not None
        assert (outcome.state, outcome.detail) == ("delivered", None)


async def attempted(desk: EndpointDesk, *, passing: str | None = None) -> Outcome:
    """One attempt at the oldest delivery that is due, those of the subject `passing` left aside, and its settlement."""
    await execute(
        "update core.delivery d set next_attempt_at = now() + make_interval(secs => case when e.subject = $1 "
        "then 60 else 0 end) from core.event e where e.event_id = d.event_id and d.finished_at is null",
        passing,
    )
    (held,) = await ledger.claim({SUBSCRIPTION: 1}, worker=7)
    outcome = await desk.lane("acme-1").attempt(held)
    assert await ledger.settle([(held, outcome)]) == {held.delivery_id}
    return outcome


DAYS_S = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)


class TestASchedule:
    async def test_of_the_connector_spreads_ten_attempts_over_three_days(
        self, desk: EndpointDesk, remote: Remote
    ) -> None:
        connector = msgspec.structs.replace(ACME, retry_waits=lambda settings: DAYS_S)
        other = make_desk(connector=connector)
        await other.refresh()
        await execute("update core.route set attempts_max = 10")
        remote.poison.add("T-1")
        await add_deliveries("T-1")
        waited: list[float] = []
        for _ in range(len(DAYS_S)):
            outcome = await attempted(other)
            assert (outcome.state, outcome.charge) == ("retrying", True)
            assert outcome.retry_at is not None
            waited.append((outcome.retry_at - utc_now()).total_seconds())
            # Others are delivered meanwhile: the remote is well, and only this message is not taken.
            await add_deliveries(f"T-{len(waited) + 1}")
            assert (await attempted(other, passing="T-1")).state == "delivered"
        assert (await attempted(other)).state == "dead"
        await other.close()
        assert all(abs(wait - step) <= step / 10 + 1 for wait, step in zip(waited, DAYS_S, strict=True)), waited
        assert abs(sum(waited) / 3600 - 75.6) < 7.6
