"""Deliveries that Camel makes: handed over once, in order, whatever becomes of the worker, the broker or Camel."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from busbar.bus.broker import Broker
from busbar.connectors import commands, handover
from busbar.connectors.commands import Changes
from busbar.connectors.contract import Attempt, Endpoint
from busbar.connectors.desk import EndpointDesk
from busbar.connectors.handover import handover_readings
from busbar.connectors.tests.camel import Peer, outcome_of, running_peer
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
from busbar.db import execute, fetch
from busbar.errors import Conflict
from busbar.events import ledger
from busbar.events.dead_letters import discard
from busbar.events.deliveries import get_delivery
from busbar.events.ledger import HANDING_OVER_S, HANDOVER_LEASE_S
from busbar.events.trace import trace
from busbar.testing.broker import TestBroker


async def given(peer: Peer, count: int) -> None:
    """Wait until so much was handed over."""

    async def reached() -> bool:
        return len(peer.given) >= count

    await until(reached)


class TestHandingOver:
    async def test_gives_camel_all_it_needs_and_delivers_by_its_outcome(
        self, camels: EndpointDesk, peer: Peer, remote: Remote
    ) -> None:
        [event_id] = await add_deliveries("T-1")
        async with working(camels):
            await all_delivered(1)
        [message], [body] = peer.messages, peer.given
        delivery = await state_of("T-1")
        assert message.routing_key == "camel.acme.acme-1"
        assert message.message_id == f"{delivery['delivery_id']}.1"
        assert message.correlation_id == "c-1"
        assert message.delivery_mode == 2
        assert dict(message.headers) == {"busbar-endpoint": "acme-1", "busbar-kind": "acme"}
        assert body["delivery_id"] == str(delivery["delivery_id"])
        assert (body["attempt"], body["first"], body["remote_id"], body["document"]) == (1, True, None, None)
        assert body["endpoint"] == {"endpoint_id": "acme-1", "kind": "acme", "name": "Acme"}
        assert (body["event"]["id"], body["event"]["specversion"]) == (str(event_id), "1.0")
        assert body["composed"]["body"] == {"subject": "T-1", "event": str(event_id)}
        assert CANARY not in message.body.decode()
        assert remote.records == {"T-1": [str(event_id)]}

    async def test_leaves_its_legs_in_ledger_and_trace(self, camels: EndpointDesk, peer: Peer) -> None:
        await add_deliveries("T-1")
        peer.may_go_on.clear()
        async with working(camels):
            await given(peer, 1)
            waiting = await get_delivery(context(), (await state_of("T-1"))["delivery_id"])
            assert (waiting.state, waiting.tries) == ("in_flight", ())
            assert waiting.handed_over_at is not None
            peer.may_go_on.set()
            await all_delivered(1)
        delivery = await get_delivery(context(), waiting.delivery_id)
        assert (delivery.remote_id, delivery.last_error, delivery.handed_over_at) == ("REM-T-1", None, None)
        [leg] = delivery.tries
        assert (leg.runner, leg.outcome, leg.detail) == ("camel", "delivered", "The record was written.")
        assert leg.started_at <= leg.finished_at
        [step] = [step for step in (await trace(context(), "REM-T-1")).steps if step.kind == "attempt"]
        assert (step.runner, step.remote_id) == ("camel", "REM-T-1")
        assert step.text == "Attempt 1 of route:acme to acme-1 by Camel: delivered."
        [reference] = await fetch("select remote_id, marker from core.remote_reference where subject = 'T-1'")
        assert dict(reference) == {"remote_id": "REM-T-1", "marker": "1"}

    async def test_keeps_the_order_of_a_key_and_tells_the_next_the_remote_id(
        self, camels: EndpointDesk, peer: Peer, remote: Remote
    ) -> None:
        ids = await add_deliveries("T-1", "T-1", "T-2")
        peer.may_go_on.clear()
        async with working(camels):
            await given(peer, 1)
            await until(_is({"in_flight": 2, "pending": 1}))
            peer.may_go_on.set()
            await all_delivered(3)
        assert remote.records["T-1"] == [str(ids[0]), str(ids[1])]
        [last] = [body for body in peer.given if body["event"]["id"] == str(ids[1])]
        assert last["remote_id"] == "REM-T-1"

    async def test_settles_itself_what_cannot_be_composed(self, camels: EndpointDesk, peer: Peer) -> None:
        await add_deliveries("idle-1", "bad-1", "broken")
        async with working(camels):
            await until(_is({"skipped": 1, "dead": 2}))
        assert peer.given == []
        assert (await state_of("idle-1"))["last_error"] == "Acme keeps no such records."
        assert (await state_of("bad-1"))["last_error"] == "Acme cannot be told of it."
        assert (await state_of("broken"))["last_error"] == "The connector failed: KeyError: 'ticket_id'"

    async def test_asks_the_connectors_own_tables_first(self, camels: EndpointDesk, peer: Peer) -> None:
        async def prepare(endpoint: Endpoint, attempt: Attempt) -> dict[str, str]:
            return {"short_id": f"{endpoint.endpoint_id}/{attempt.event['subject']}"}

        def compose(settings: object, attempt: Attempt) -> dict[str, object]:
            return {"path": "/records", "body": {"subject": attempt.known["short_id"], "event": attempt.event["id"]}}

        other = make_desk(connector=msgspec.structs.replace(ACME, prepare=prepare, compose=compose), brokered=True)
        assert camels.handover.publisher is not None
        other.hand_over_through(camels.handover.publisher)
        await other.refresh()
        await add_deliveries("T-1")
        async with working(other):
            await all_delivered(1)
        await other.close()
        assert peer.given[0]["composed"]["body"]["subject"] == "acme-1/T-1"

    async def test_brings_what_camel_has_to_an_end_when_the_runner_changes(
        self, camels: EndpointDesk, peer: Peer
    ) -> None:
        await add_deliveries("T-1", "T-1")
        peer.may_go_on.clear()
        async with working(camels):
            await given(peer, 1)
            await commands.change_endpoint(context(), camels, "acme-1", Changes(runner="busbar"))
            peer.may_go_on.set()
            await all_delivered(2)
        assert len(peer.given) == 1


def _is(wanted: dict[str, int]) -> Callable[[], Awaitable[bool]]:
    async def reached() -> bool:
        return await states() == wanted

    return reached


async def _held_for_long() -> bool:
    """Whether it is handed over for good: until it was, the lease is short, and is set once more."""
    return bool(await fetch("select 1 from core.delivery where lease_until > now() + interval '5 minutes'"))


class TestAWorkerThatEnds:
    async def test_leaves_with_camel_what_it_handed_over(self, camels: EndpointDesk, peer: Peer) -> None:
        await add_deliveries("T-1")
        peer.may_go_on.clear()
        async with working(camels, number=71):
            await given(peer, 1)
            await until(_is({"in_flight": 1}))
        # Stopped in good order, and its lock is not held either, as after a kill.
        assert await ledger.suspects() == set()
        assert await ledger.take_over({71}) == 0
        peer.may_go_on.set()
        await all_delivered(1)
        assert len(peer.given) == 1

    async def test_has_the_desk_say_who_has_it(self, camels: EndpointDesk, peer: Peer) -> None:
        await add_deliveries("T-1")
        peer.may_go_on.clear()
        async with working(camels, number=71):
            await given(peer, 1)
            await until(_is({"in_flight": 1}))
        (row,) = await fetch("select delivery_id from core.delivery")
        with pytest.raises(Conflict, match="Camel has the delivery"):
            await discard(context(), row["delivery_id"], reason="not needed")
        peer.may_go_on.set()
        await all_delivered(1)

    async def test_before_the_handover_has_its_delivery_taken_over(self, camels: EndpointDesk) -> None:
        await add_deliveries("T-1")
        (held,) = await ledger.claim({SUBSCRIPTION: 1}, worker=71)
        assert await ledger.suspects() == {71}
        assert await ledger.take_over({71}) == 1
        assert await ledger.hand_over([held]) == set()

    async def test_holds_it_for_ten_minutes(self, camels: EndpointDesk, peer: Peer) -> None:
        await add_deliveries("T-1")
        peer.may_go_on.clear()
        (held,) = await ledger.claim({SUBSCRIPTION: 1}, worker=71)
        outcome = await camels.lane("acme-1").attempt(held)
        assert outcome is not None and outcome.state == "in_flight"
        assert await ledger.settle([(held, outcome)]) == {held.delivery_id}
        row = await state_of("T-1")
        assert (row["state"], row["attempts"]) == ("in_flight", 1)
        # Counted from the moment at which the broker had it, a little after it was held for handing over.
        assert HANDOVER_LEASE_S == 600
        assert 600 <= (row["lease_until"] - row["handed_over_at"]).total_seconds() < 600 + HANDING_OVER_S
        peer.may_go_on.set()
        await all_delivered(1)


class TestCamelThatSaysNothing:
    async def test_has_it_given_to_it_again_and_its_late_outcome_is_stale(
        self, camels: EndpointDesk, peer: Peer, remote: Remote
    ) -> None:
        await add_deliveries("T-1")
        peer.may_go_on.clear()
        async with working(camels):
            await given(peer, 1)
            await until(_held_for_long)
            await execute("update core.delivery set lease_until = now() - interval '1 second'")
            assert await ledger.take_over(set()) == 1
            await until(_is({"in_flight": 1}))
            # Of the first attempt: nobody waits for it any more.
            await peer.say(outcome_of(peer.given[0], state="dead", detail="late"))
            peer.may_go_on.set()
            await all_delivered(1)
        delivery = await get_delivery(context(), (await state_of("T-1"))["delivery_id"])
        assert [(leg.attempt, leg.outcome, leg.runner) for leg in delivery.tries] == [
            (1, "lost", "camel"),
            (2, "delivered", "camel"),
        ]
        assert delivery.tries[0].detail == "Camel sent no outcome in time"
        assert [body["first"] for body in peer.given] == [True, False]
        assert len(remote.records["T-1"]) == 1

    async def test_is_given_no_more_than_so_many_at_a_time(
        self, camels: EndpointDesk, peer: Peer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(handover, "UNDER_WAY_MAX", 3)
        await add_deliveries(*[f"T-{number}" for number in range(7)])
        peer.may_go_on.clear()
        async with working(camels):
            await given(peer, 3)
            assert await states() == {"in_flight": 3, "pending": 4}
            await camels.refresh()  # as every process counts anew
            assert camels.lane("acme-1").free(0) == 0
            readings = {reading.family: reading for reading in await handover_readings()}
            assert readings["busbar_handed_over"].value == 3
            assert readings["busbar_handed_over"].labels == {"endpoint": "acme-1"}
            assert readings["busbar_handed_over_age_seconds"].value >= 0
            peer.may_go_on.set()
            await all_delivered(7)
        assert [reading.value for reading in await handover_readings()] == [0, 0]


class TestABrokerThatIsAway:
    async def test_lets_the_deliveries_wait_in_the_ledger(self, camels: EndpointDesk, peer: Peer) -> None:
        alone = make_desk(brokered=True)
        await alone.refresh()
        await add_deliveries("T-1")
        async with working(alone, number=2):
            await asyncio.sleep(0.3)
            assert await states() == {"pending": 1}
        assert alone.lane("acme-1").free(0) == 0
        await alone.close()
        async with working(camels):
            await all_delivered(1)

    async def test_gives_back_uncharged_what_it_does_not_confirm(
        self, camels: EndpointDesk, rabbitmq: TestBroker, vhost: str, remote: Remote
    ) -> None:
        # Nobody is bound to camel.acme: the broker returns the message, and it goes nowhere.
        await add_deliveries("T-1")
        (held,) = await ledger.claim({SUBSCRIPTION: 1}, worker=1)
        outcome = await camels.lane("acme-1").attempt(held)
        assert outcome is not None
        assert (outcome.state, outcome.charge) == ("retrying", False)
        assert outcome.detail == "It could not be handed over to Camel. No queue takes camel.acme.acme-1."
        assert await ledger.settle([(held, outcome)]) == {held.delivery_id}
        row = await state_of("T-1")
        assert (row["state"], row["charged"], row["worker"], row["handed_over_at"]) == ("retrying", 0, None, None)

        async def work(body: dict[str, object]) -> dict[str, object]:
            return {"remote_id": "REM-T-1"}

        async with running_peer(rabbitmq.url_of(vhost), work) as late, working(camels):
            await all_delivered(1)
        assert [body["attempt"] for body in late.given] == [2]

    async def test_gives_back_what_was_claimed_before_it_went(self, camels: EndpointDesk, broker: Broker) -> None:
        await add_deliveries("T-1")
        (held,) = await ledger.claim({SUBSCRIPTION: 1}, worker=1)
        camels.handover.publisher = None
        outcome = await camels.lane("acme-1").attempt(held)
        assert outcome is not None
        assert (outcome.state, outcome.charge) == ("retrying", False)
        assert camels.handover.room("acme-1") == handover.UNDER_WAY_MAX
