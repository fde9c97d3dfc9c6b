"""The dead-letter desk over HTTP: replay, correct, work out anew, give up; each with its reason in the trail."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from busbar.db import execute, fetchrow, fetchval
from busbar.events import ledger
from busbar.events.envelope import StoredEvent
from busbar.events.ledger import Claimed, Outcome
from busbar.events.stream import EventStream
from busbar.events.subscriptions import Match
from busbar.events.tests.facts import a_relay, a_subscription, an_actor, tell
from busbar.events.tests.served import Api, Signed, browser, make_app, serving

LANE = "tst.reader"
ROUTE = "route.r1"


class Route:
    """A route whose mapping can be changed."""

    def __init__(self) -> None:
        self.version = 1
        self.match_of: Any = {"document": {"text": "first"}}

    async def refresh(self) -> None:
        """Tests change it in this process."""

    def match(self, event: StoredEvent) -> list[Match]:
        if self.match_of is None:
            return []
        return [
            Match(
                subscription=ROUTE, endpoint_id="erp", route_id="r1", route_version=self.version,
                ordering_key=event.subject, **self.match_of,
            )
        ]  # fmt: skip


@pytest.fixture
def route() -> Route:
    return Route()


@pytest.fixture
async def api(database: str, route: Route) -> AsyncIterator[Api]:
    signed = Signed()
    async with serving(make_app(EventStream(), signed, route)) as base, browser() as session:
        yield Api(base, session, signed)


async def fail(lane: str, outcome: Outcome) -> Claimed:
    (held,) = await ledger.claim({lane: 1}, worker=1)
    await ledger.settle([(held, outcome)])
    return held


async def a_dead_one(lane: str = LANE, *, subject: str = "S-1", site: str = "north", route: Route | None = None) -> int:
    await tell(1, subject=subject, site=site)
    await a_relay(a_subscription(LANE), matchers=[route] if route else []).move_batch()
    return (await fail(lane, Outcome(state="dead", detail="poison"))).delivery_id


class TestReplay:
    async def test_sends_a_dead_letter_again_and_keeps_its_attempts(self, api: Api) -> None:
        delivery_id = await a_dead_one()
        answer = await api.post(f"/deliveries/{delivery_id}/replay", {"reason": "the store is open again"})
        assert (answer["state"], answer["charged"], answer["attempts"], len(answer["tries"])) == ("pending", 0, 1, 1)
        (held,) = await ledger.claim({LANE: 1}, worker=1)
        assert (held.delivery_id, held.attempt) == (delivery_id, 2)

    async def test_leaves_the_reason_and_the_actor_in_the_trail(self, api: Api) -> None:
        delivery_id = await a_dead_one()
        await api.post(f"/deliveries/{delivery_id}/replay", {"reason": "corrected the plant"})
        entry = await fetchrow("select * from core.audit")
        assert (entry["action"], entry["object_kind"], entry["object_id"]) == (
            "delivery.replay",
            "delivery",
            str(delivery_id),
        )
        assert (entry["actor_name"], entry["comment"], entry["site_id"]) == ("alex", "corrected the plant", "north")
        assert (entry["previous_status"], entry["new_status"]) == ("dead", "pending")
        assert entry["correlation_id"] != "none"

    async def test_sends_a_corrected_document_and_keeps_the_former_one_in_the_trail(
        self, api: Api, route: Route
    ) -> None:
        delivery_id = await a_dead_one(ROUTE, route=route)
        answer = await api.post(
            f"/deliveries/{delivery_id}/replay", {"reason": "typing mistake", "document": {"text": "corrected"}}
        )
        assert answer["document"] == {"text": "corrected"}
        details = await fetchrow(
            "select details->'document_before' as before, details->'document_after' as after from core.audit"
        )
        assert (details["before"], details["after"]) == ('{"text": "first"}', '{"text": "corrected"}')

    async def test_refuses_a_document_for_a_handler(self, api: Api) -> None:
        delivery_id = await a_dead_one()
        body = {"reason": "x", "document": {"n": 2}}
        assert (await api.post(f"/deliveries/{delivery_id}/replay", body, status=422))["code"] == "BUS_002"
        assert await fetchval("select state from core.delivery") == "dead"

    async def test_works_it_out_anew_by_todays_rules(self, api: Api, route: Route) -> None:
        delivery_id = await a_dead_one(ROUTE, route=route)
        route.version, route.match_of = 2, {"document": {"text": "second"}}
        answer = await api.post(f"/deliveries/{delivery_id}/replay", {"reason": "new mapping", "work_out_anew": True})
        assert (answer["document"], answer["route_version"]) == ({"text": "second"}, 2)

    async def test_works_out_what_never_could_be(self, api: Api, route: Route) -> None:
        route.match_of = {"state": "dead", "reason": "the mapping has no field plant"}
        await tell(1)
        await a_relay(matchers=[route]).move_batch()
        delivery_id = await fetchval("select delivery_id from core.delivery")
        again = f"/deliveries/{delivery_id}/replay"
        refusal = await api.post(again, {"reason": "hope"}, status=422)
        assert "the mapping has no field plant" in refusal["detail"]
        route.match_of = {"document": {"plant": "1000"}}
        assert (await api.post(again, {"reason": "corrected the mapping"}))["document"] == {"plant": "1000"}

    async def test_refuses_what_no_rule_sends_any_more(self, api: Api, route: Route) -> None:
        delivery_id = await a_dead_one(ROUTE, route=route)
        route.match_of = None
        body = {"reason": "x", "work_out_anew": True}
        refusal = await api.post(f"/deliveries/{delivery_id}/replay", body, status=422)
        assert refusal["detail"] == "route.r1 takes no such event any more; give it a document, or discard it."

    async def test_tries_a_retrying_one_at_once(self, api: Api) -> None:
        delivery_id = await a_dead_one()
        await execute("update core.delivery set state = 'retrying', next_attempt_at = now() + interval '1 h'")
        await api.post(f"/deliveries/{delivery_id}/replay", {"reason": "the remote is back"})
        assert len(await ledger.claim({LANE: 1}, worker=1)) == 1

    @pytest.mark.parametrize(("state", "status"), [("delivered", 422), ("skipped", 422), ("in_flight", 409)])
    async def test_refuses_the_other_states(self, api: Api, state: str, status: int) -> None:
        delivery_id = await a_dead_one()
        await execute("update core.delivery set state = $1", state)
        await api.post(f"/deliveries/{delivery_id}/replay", {"reason": "x"}, status=status)
        assert await fetchval("select state from core.delivery") == state
        assert await fetchval("select count(*) from core.audit") == 0

    async def test_needs_a_reason(self, api: Api) -> None:
        delivery_id = await a_dead_one()
        body = await api.post(f"/deliveries/{delivery_id}/replay", {}, status=400)
        assert body["errors"][0]["field"] == "reason"

    async def test_hides_those_of_another_site(self, api: Api) -> None:
        delivery_id = await a_dead_one(site="south")
        api.signed.actor = an_actor(sites=("north",))
        await api.post(f"/deliveries/{delivery_id}/replay", {"reason": "x"}, status=404)
        await api.post(f"/deliveries/{delivery_id}/discard", {"reason": "x"}, status=404)
        assert await fetchval("select state from core.delivery") == "dead"


class TestDiscard:
    async def test_keeps_it_as_skipped_with_the_reason(self, api: Api) -> None:
        delivery_id = await a_dead_one()
        answer = await api.post(f"/deliveries/{delivery_id}/discard", {"reason": "told by phone"})
        assert (answer["state"], answer["last_error"]) == ("skipped", "given up by alex: told by phone")
        entry = await fetchrow("select action, comment, details->>'last_error' as was from core.audit")
        assert tuple(entry) == ("delivery.discard", "told by phone", "poison")

    async def test_lets_what_waits_behind_it_go(self, api: Api) -> None:
        await tell(1, subject="S-1")
        await tell(2, subject="S-1")
        await a_relay(a_subscription(LANE)).move_batch()
        held = await fail(LANE, Outcome(state="retrying", detail="down"))
        await execute("update core.delivery set next_attempt_at = now() + interval '1 h' where state = 'retrying'")
        assert await ledger.claim({LANE: 5}, worker=1) == []
        await api.post(f"/deliveries/{held.delivery_id}/discard", {"reason": "not needed"})
        (following,) = await ledger.claim({LANE: 5}, worker=1)
        assert following.event.position == 2

    async def test_refuses_what_is_finished(self, api: Api) -> None:
        delivery_id = await a_dead_one()
        await execute("update core.delivery set state = 'delivered'")
        await api.post(f"/deliveries/{delivery_id}/discard", {"reason": "x"}, status=422)
