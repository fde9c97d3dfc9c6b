"""What Camel says became of a delivery, and what the ledger makes of it; doubled, late and unreadable outcomes too."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from busbar.bus.consumers import Incoming, Refused
from busbar.bus.topology import DEAD
from busbar.connectors import commands
from busbar.connectors.desk import EndpointDesk
from busbar.connectors.outcomes import OutcomeReader, Told
from busbar.connectors.tests.camel import Peer, outcome_of
from busbar.connectors.tests.support import (
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
from busbar.db import execute, fetch
from busbar.events.dead_letters import replay
from busbar.testing.broker import TestBroker


def telling(**told: Any) -> Any:
    """A peer's work that always ends so."""

    async def work(body: dict[str, Any]) -> dict[str, Any]:
        return told

    return work


async def in_state(subject: str, state: str) -> Any:
    """The delivery of a subject, once it is in that state."""

    async def reached() -> bool:
        return bool((await state_of(subject))["state"] == state)

    await until(reached)
    return await state_of(subject)


async def legs(subject: str) -> list[dict[str, Any]]:
    rows = await fetch(
        "select a.attempt, a.outcome, a.detail, a.runner from core.delivery_attempt a "
        "join core.delivery d using (delivery_id) join core.event e using (event_id) where subject = $1 order by a.id",
        subject,
    )
    return [dict(row) for row in rows]


class TestARetryingOutcome:
    async def test_is_charged_and_tried_again_until_the_route_gives_up(
        self, camels: EndpointDesk, peer: Peer, remote: Remote
    ) -> None:
        await execute("update core.route set attempts_max = 2")
        remote.poison.add("T-1")
        await add_deliveries("T-1")
        async with working(camels):
            row = await in_state("T-1", "dead")
        assert row["charged"] == 2
        assert row["last_error"] == "The remote said 500. Camel asked 3 times."
        assert [(leg["outcome"], leg["runner"]) for leg in await legs("T-1")] == [
            ("retrying", "camel"),
            ("dead", "camel"),
        ]

    async def test_waits_as_long_as_the_remote_asks(self, camels: EndpointDesk, peer: Peer) -> None:
        peer.work = telling(state="retrying", detail="busy", retry_after_s=120)
        await add_deliveries("T-1")
        async with working(camels):
            row = await in_state("T-1", "retrying")
        assert row["charged"] == 1
        assert 100 < (row["next_attempt_at"] - datetime.now(UTC)).total_seconds() <= 120

    async def test_pauses_the_endpoint_uncharged_when_the_quota_is_used_up(
        self, camels: EndpointDesk, peer: Peer
    ) -> None:
        peer.work = telling(state="retrying", detail="Too much.", retry_after_s=1e12, charge=False)
        await add_deliveries("T-1")
        async with working(camels):
            row = await in_state("T-1", "retrying")
        assert row["charged"] == 0
        assert ((await breaker())["phase"], (await breaker())["reason"]) == ("open", "rate_limited")
        assert datetime.fromisoformat((await breaker())["until"]) - datetime.now(UTC) <= timedelta(days=1)
        assert camels.lane("acme-1").free(0) == 0

    async def test_opens_the_breaker_when_the_remote_is_down_and_closes_it_when_it_is_back(
        self, camels: EndpointDesk, peer: Peer, remote: Remote
    ) -> None:
        subjects = [f"T-{number}" for number in range(6)]
        remote.poison.update(subjects)
        await add_deliveries(*subjects)
        async with working(camels):

            async def opened() -> bool:
                return (await breaker()).get("phase") == "open"

            await until(opened)
            remote.poison.clear()
            await all_delivered(6)
        assert (await breaker())["phase"] == "closed"
        assert sorted(len(events) for events in remote.records.values()) == [1] * 6

    async def test_of_credentials_that_are_refused_pauses_until_they_are_entered(
        self, camels: EndpointDesk, peer: Peer
    ) -> None:
        peer.work = telling(state="retrying", detail="401.", charge=False)
        await add_deliveries("T-1")
        async with working(camels):
            await in_state("T-1", "retrying")
            assert (await breaker())["reason"] == "auth_expired"
            peer.work = telling(remote_id="REM-T-1")
            await commands.resume_endpoint(context(), "acme-1")
            await all_delivered(1)


class TestAFinalOutcome:
    async def test_of_dead_can_be_replayed_and_reaches_camel_again(
        self, camels: EndpointDesk, peer: Peer, remote: Remote
    ) -> None:
        remote.refused.add("T-1")
        await add_deliveries("T-1")
        async with working(camels):
            row = await in_state("T-1", "dead")
            assert row["last_error"] == "The remote refused it."
            remote.refused.clear()
            await replay(context(), row["delivery_id"], reason="they have mended it")
            await all_delivered(1)
        assert [(body["attempt"], body["first"]) for body in peer.given] == [(1, True), (2, False)]
        assert [leg["outcome"] for leg in await legs("T-1")] == ["dead", "delivered"]

    async def test_of_skipped_keeps_the_reason(self, camels: EndpointDesk, peer: Peer) -> None:
        peer.work = telling(state="skipped", detail="SAP never had this requisition.")
        await add_deliveries("T-1")
        async with working(camels):
            row = await in_state("T-1", "skipped")
        assert (row["last_error"], row["charged"]) == ("SAP never had this requisition.", 0)

    async def test_hides_the_endpoints_secrets_and_is_cut_to_a_sentence(self, camels: EndpointDesk, peer: Peer) -> None:
        peer.work = telling(state="dead", detail="Bearer canary+7f3a/no one may ever see this " + "x\x00" * 900)
        await add_deliveries("T-1")
        async with working(camels):
            row = await in_state("T-1", "dead")
        assert "canary" not in row["last_error"]
        assert len(row["last_error"]) <= 500


class TestAnOutcomeThatCounts:
    async def test_comes_twice_and_is_written_once(self, camels: EndpointDesk, peer: Peer) -> None:
        await add_deliveries("T-1", "T-2")
        peer.may_go_on.clear()
        async with working(camels):

            async def all_given() -> bool:
                return await states() == {"in_flight": 2} and len(peer.given) == 2

            await until(all_given)
            with capture_logs() as lines:
                [first] = [body for body in peer.given if body["event"]["subject"] == "T-1"]
                await peer.say(outcome_of(first, remote_id="REM-T-1"), times=5)
                await in_state("T-1", "delivered")
                peer.may_go_on.set()
                await all_delivered(2)

                async def all_stale() -> bool:
                    return sum(line["event"] in ("outcome_stale", "delivery") for line in lines) >= 7

                await until(all_stale)
        assert [leg["outcome"] for leg in await legs("T-1")] == ["delivered"]
        assert (await state_of("T-1"))["charged"] == 1

    async def test_waits_for_a_database_that_is_away(self, camels: EndpointDesk, peer: Peer) -> None:
        await add_deliveries("T-1")
        peer.may_go_on.clear()
        async with working(camels):

            async def held() -> bool:
                return len(peer.given) == 1

            await until(held)
            with capture_logs() as lines:
                await execute("alter table core.delivery_attempt rename to away")
                await execute(
                    "create function core.gone() returns trigger language plpgsql as "
                    "$$ begin raise exception 'shutting down' using errcode = '57P01'; end $$"
                )
                await execute("create view core.delivery_attempt as select * from core.away")
                await execute(
                    "create trigger gone instead of insert on core.delivery_attempt for each row "
                    "execute function core.gone()"
                )
                peer.may_go_on.set()

                async def troubled() -> bool:
                    return any(line["event"] == "outcome_not_written_yet" for line in lines)

                await until(troubled)
                await execute("drop view core.delivery_attempt")
                await execute("alter table core.away rename to delivery_attempt")
            await all_delivered(1)
        assert len(peer.given) == 1


class TestAnUnreadableOutcome:
    async def test_goes_to_the_dead_letters_of_the_broker(
        self, camels: EndpointDesk, peer: Peer, rabbitmq: TestBroker, vhost: str
    ) -> None:
        await add_deliveries("T-1")
        peer.may_go_on.clear()
        await peer.say(b"{")
        await peer.say({"delivery_id": "1", "state": "fine"})
        async with working(camels):
            peer.may_go_on.set()
            await all_delivered(1)

        async def kept() -> bool:
            return (await rabbitmq.queues(vhost=vhost))[DEAD].ready == 2

        await until(kept)

    @pytest.mark.parametrize(
        "change",
        [
            {"state": "lost"},
            {"remote_id": None},
            {"remote_id": ""},
            {"delivery_id": "x"},
            {"attempt": 0},
            {"started_at": "2026-11-28T15:12:01"},
            {"retry_after_s": -1},
        ],
    )
    async def test_is_refused(self, database: str, desk: EndpointDesk, change: dict[str, Any]) -> None:
        body = outcome_of({"delivery_id": "1", "attempt": 1}, remote_id="REM-1") | change
        with pytest.raises(Refused, match=r"It is no outcome of a delivery: "):
            await OutcomeReader(desk).take(_incoming(body))

    async def test_is_not_one_with_the_nanoseconds_of_java(self) -> None:
        body = (
            b'{"delivery_id":"7","attempt":2,"state":"delivered","remote_id":"0a","marker":null,"detail":null,'
            b'"retry_after_s":null,"started_at":"2026-11-28T15:12:01.123456789Z","finished_at":"2026-11-28T15:12:02Z",'
            b'"tries":1,"more":"is fine"}'
        )
        told = msgspec.json.decode(body, type=Told)
        assert told.started_at < told.finished_at

    async def test_of_a_delivery_that_nobody_knows_is_stale(self, database: str, desk: EndpointDesk) -> None:
        with capture_logs() as lines:
            await OutcomeReader(desk).take(_incoming(outcome_of({"delivery_id": "99", "attempt": 1}, remote_id="R")))
        assert [line["event"] for line in lines] == ["outcome_stale"]


def _incoming(body: dict[str, Any]) -> Incoming:
    return Incoming(
        queue="busbar.outcomes",
        body=msgspec.json.encode(body),
        headers={},
        message_id="",
        routing_key="camel",
        redelivered=False,
    )
